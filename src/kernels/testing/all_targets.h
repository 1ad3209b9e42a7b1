// Runs a test body once for every SIMD target that this CPU has.

#ifndef PYRAMIDKV_KERNELS_TESTING_ALL_TARGETS_H_
#define PYRAMIDKV_KERNELS_TESTING_ALL_TARGETS_H_

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace pyramidkv {

template <class F>
void ForAllTargets(const F& body) {
  int64_t left = hwy::SupportedTargets();
  while (left != 0) {
    const int64_t target = left & -left;
    left &= left - 1;
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
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
