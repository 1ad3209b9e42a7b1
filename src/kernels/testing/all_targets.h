// Runs a test body once for every SIMD target that this CPU has of those that
// are compiled, or as every lesser CPU that this one can stand in for.

#ifndef PYRAMIDKV_KERNELS_TESTING_ALL_TARGETS_H_
#define PYRAMIDKV_KERNELS_TESTING_ALL_TARGETS_H_

#include <cstdint>
#include <random>
#include <vector>

#include "base/cpu.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace pyramidkv {

template <class F>
void ForAllTargets(const F& body) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

struct CpuLevel {
  const char* name;
  CpuFeatures features;
  int64_t targets;  // Highway's
};

// From the least to what this CPU covers.
inline std::vector<CpuLevel> CpuLevels() {
  constexpr int64_t kSse = HWY_SSSE3 | HWY_SSE4, kAvx2 = kSse | HWY_AVX2,
                    kAvx512 = kAvx2 | HWY_AVX3;
  CpuFeatures f;
  std::vector<CpuLevel> levels = {{"x86-64-v2", f, kSse}};
  f.f16c = f.avx2 = true;
  levels.push_back({"AVX2", f, kAvx2});
  f.avx512 = true;
  levels.push_back({"AVX-512", f, kAvx512});
  f.avx512_vnni = true;
  levels.push_back({"AVX-512 VNNI", f, kAvx512});
  f.avx512_bf16 = true;
  levels.push_back({"AVX-512 BF16", f, kAvx512});
  std::erase_if(levels, [](const CpuLevel& level) {
    return !Covers(Cpu(), level.features);
  });
  return levels;
}

// Makes this CPU behave like a lesser one.
class AsCpu {
 public:
  explicit AsCpu(const CpuLevel& level) : scoped_(level.features) {
    hwy::SetSupportedTargetsForTest(level.targets & hwy::SupportedTargets());
  }
  ~AsCpu() { hwy::SetSupportedTargetsForTest(0); }

 private:
  ScopedCpu scoped_;
};

template <class F>
void ForAllCpus(const F& body) {
  for (const CpuLevel& level : CpuLevels()) {
    const AsCpu as(level);
    SCOPED_TRACE(level.name);
    body();
  }
}

inline std::vector<float> RandomFloats(size_t n, uint32_t seed,
                                       float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

inline void ExpectNear(const std::vector<float>& got,
                       const std::vector<float>& want, float tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance) << "at " << i;
  }
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_TESTING_ALL_TARGETS_H_
