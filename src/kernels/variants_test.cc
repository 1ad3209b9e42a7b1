#include "kernels/testing/variants.h"

#include <algorithm>

#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

size_t Missing(const CpuFeatures& cpu, int64_t targets) {
  size_t missing = 0;
  for (const KernelVariants& kernel : ListVariants(cpu, targets)) {
    missing += kernel.not_tried.size();
  }
  return missing;
}

TEST(Variants, TheGreatestCpuTriesAll) {
  EXPECT_EQ(Missing({true, true, true, true, true}, HWY_TARGETS), 0);
}

// Every feature has a kernel that wants it, but for AVX-512 itself: that is
// Highway's.
TEST(Variants, WhatACpuLacksIsListed) {
  const CpuFeatures all = {true, true, true, true, true};
  for (bool CpuFeatures::*feature :
       {&CpuFeatures::f16c, &CpuFeatures::avx2, &CpuFeatures::avx512_vnni,
        &CpuFeatures::avx512_bf16}) {
    CpuFeatures lesser = all;
    lesser.*feature = false;
    EXPECT_GT(Missing(lesser, HWY_TARGETS), 0);
  }
  EXPECT_EQ(Missing(all, HWY_TARGETS & ~HWY_AVX3), 1);
}

// All kernels run on the least CPU, if not always as these forms.
TEST(Variants, LesserCpusTryLess) {
  size_t before = Missing({}, HWY_SSSE3);
  for (const CpuLevel& level : CpuLevels()) {
    const size_t missing = Missing(level.features, level.targets);
    EXPECT_LE(missing, before);
    before = missing;
  }
}

}  // namespace
}  // namespace pyramidkv
