// Which forms of which kernels this CPU can run, and which it cannot: tests
// try the former, and a green run says nothing about the latter.

#ifndef PYRAMIDKV_KERNELS_TESTING_VARIANTS_H_
#define PYRAMIDKV_KERNELS_TESTING_VARIANTS_H_

#include <string>
#include <vector>

#include "base/cpu.h"
#include "hwy/highway.h"
#include "kernels/attention_decode_int8.h"
#include "kernels/attention_form.h"
#include "kernels/matmul_int8.h"

namespace pyramidkv {

struct KernelVariants {
  std::string kernel;
  std::vector<std::string> tried = {}, not_tried = {};

  void Add(const std::string& name, bool runs) {
    (runs ? tried : not_tried).push_back(name);
  }
};

// One for each kernel with several forms. targets: those of Highway that the
// CPU has.
inline std::vector<KernelVariants> ListVariants(const CpuFeatures& cpu,
                                                int64_t targets) {
  KernelVariants portable{"portable kernels"};
  for (int64_t left = HWY_TARGETS; left != 0; left &= left - 1) {
    const int64_t target = left & -left;
    portable.Add(hwy::TargetName(target), (targets & target) != 0);
  }
  KernelVariants prompt{"prompt attention"}, columns{"column sums"};
  for (AttentionForm form : kAttentionForms) {
    const bool runs = Covers(cpu, FormNeeds(form));
    prompt.Add(FormName(form), runs);
    if (form != AttentionForm::kInt16) columns.Add(FormName(form), runs);
  }
  KernelVariants decode{"decode attention"};
  for (const IntegerForm* form : IntegerForms()) {
    decode.Add(form->name, Covers(cpu, form->needs));
  }
  decode.Add("floats", true);
  KernelVariants products{"8-bit products"};
  for (Int8Form form : kInt8Forms) {
    products.Add(FormName(form), Covers(cpu, FormNeeds(form)));
  }
  KernelVariants dense{"dense products"}, f16{"f16 conversion"};
  dense.Add("bf16", cpu.avx512_bf16);
  dense.Add("f32", true);
  f16.Add("f16c", cpu.f16c);
  f16.Add("portable", true);
  return {portable, prompt, columns, decode, products, dense, f16};
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_TESTING_VARIANTS_H_
