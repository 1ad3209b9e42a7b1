// The features of this CPU, and the one place that asks for them. Kernels with
// several forms choose by them alone, so a lesser CPU can be tried on a greater
// one: choosers take the features as an argument, and ScopedCpu makes a whole
// process behave like such a CPU.
//
// Thread safety: Cpu() from any thread.

#ifndef PYRAMIDKV_BASE_CPU_H_
#define PYRAMIDKV_BASE_CPU_H_

namespace pyramidkv {

// Each means the instructions and an operating system that saves their
// registers. x86-64-v2 is always there.
struct CpuFeatures {
  bool f16c = false;         // AVX, F16C
  bool avx2 = false;         // AVX2, FMA, F16C
  bool avx512 = false;       // AVX-512 F, BW, DQ, VL, and AVX2 as above
  bool avx512_vnni = false;  // avx512, VNNI
  bool avx512_bf16 = false;  // avx512, BF16

  bool operator==(const CpuFeatures&) const = default;
};

// True if a CPU with `has` can do all that `needs` asks for.
bool Covers(const CpuFeatures& has, const CpuFeatures& needs);

// This CPU's, or those of a ScopedCpu.
const CpuFeatures& Cpu();

// While it lives, Cpu() gives these features: for tests of what lesser CPUs
// run. They nest. REQUIRES: this CPU covers them; no kernel runs while one
// begins or ends.
class ScopedCpu {
 public:
  explicit ScopedCpu(const CpuFeatures& features);
  ~ScopedCpu();
  ScopedCpu(const ScopedCpu&) = delete;
  ScopedCpu& operator=(const ScopedCpu&) = delete;

 private:
  const CpuFeatures features_;
  const CpuFeatures* before_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_CPU_H_
