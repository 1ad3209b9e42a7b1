// The form of the products of prompt attention. Code above the kernels
// hands the value on and never looks at it: kernels/prompt_keys.h and
// kernels/column_attention.h know what it stands for.
//
// Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_FORM_H_
#define PYRAMIDKV_KERNELS_ATTENTION_FORM_H_

#include "base/cpu.h"

namespace pyramidkv {

enum class AttentionForm {
  kF32,    // every CPU; nothing is rounded
  kInt16,  // AVX2: kernels/int16_rows.h
  kBf16    // AVX-512 BF16
};

// The fastest one first.
inline constexpr AttentionForm kAttentionForms[] = {
    AttentionForm::kBf16, AttentionForm::kInt16, AttentionForm::kF32};

constexpr const char* FormName(AttentionForm form) {
  switch (form) {
    case AttentionForm::kF32:
      return "f32";
    case AttentionForm::kInt16:
      return "int16";
    case AttentionForm::kBf16:
      return "bf16";
  }
  return "";
}

constexpr CpuFeatures FormNeeds(AttentionForm form) {
  CpuFeatures needs;
  needs.avx512_bf16 = form == AttentionForm::kBf16;
  needs.avx2 = form == AttentionForm::kInt16;
  return needs;
}

// exact: nothing may be rounded; else the fastest that the CPU runs.
inline AttentionForm ChooseAttentionForm(bool exact,
                                         const CpuFeatures& cpu = Cpu()) {
  if (exact) return AttentionForm::kF32;
  for (AttentionForm form : kAttentionForms) {
    if (Covers(cpu, FormNeeds(form))) return form;
  }
  return AttentionForm::kF32;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_FORM_H_
