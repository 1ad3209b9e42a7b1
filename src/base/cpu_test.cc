#include "base/cpu.h"

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

// A feature comes with those it is said to include.
TEST(Cpu, FeaturesIncludeEachOther) {
  const CpuFeatures& cpu = Cpu();
  EXPECT_TRUE(cpu.f16c || !cpu.avx2);
  EXPECT_TRUE(cpu.avx2 || !cpu.avx512);
  EXPECT_TRUE(cpu.avx512 || !cpu.avx512_vnni);
  EXPECT_TRUE(cpu.avx512 || !cpu.avx512_bf16);
}

TEST(Cpu, CoversEveryFeature) {
  EXPECT_TRUE(Covers({}, {}));
  for (bool CpuFeatures::*feature :
       {&CpuFeatures::f16c, &CpuFeatures::avx2, &CpuFeatures::avx512,
        &CpuFeatures::avx512_vnni, &CpuFeatures::avx512_bf16}) {
    CpuFeatures one;
    one.*feature = true;
    EXPECT_TRUE(Covers(one, {}));
    EXPECT_TRUE(Covers(one, one));
    EXPECT_FALSE(Covers({}, one));
  }
}

TEST(Cpu, LesserOnesNest) {
  const CpuFeatures whole = Cpu();
  {
    const ScopedCpu lesser({});
    EXPECT_EQ(Cpu(), CpuFeatures());
    {
      const ScopedCpu inner(whole);
      EXPECT_EQ(Cpu(), whole);
    }
    EXPECT_EQ(Cpu(), CpuFeatures());
  }
  EXPECT_EQ(Cpu(), whole);
}

}  // namespace
}  // namespace pyramidkv
