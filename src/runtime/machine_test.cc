#include "pyramidkv/machine.h"

#include "base/cpu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

TEST(DescribeMachineTest, CountsAndVersions) {
  const MachineInfo machine = DescribeMachine();
  EXPECT_GE(machine.processors, 1);
  EXPECT_GE(machine.threads, 1);
  EXPECT_LE(machine.threads, machine.processors);
  EXPECT_GT(machine.memory_bytes, 0);
  EXPECT_LE(machine.available_bytes, machine.memory_bytes);
  EXPECT_EQ(machine.cpu_features.size(), 5u);
  for (const auto& [name, version] : machine.libraries) {
    EXPECT_THAT(version, testing::MatchesRegex("[0-9a-z.+-]+")) << name;
  }
}

TEST(DescribeMachineTest, NamesThePathOfLesserCpus) {
  {
    const ScopedCpu old({});
    EXPECT_FALSE(DescribeMachine().fast_path);
    EXPECT_THAT(DescribeMachine().cpu_path, testing::HasSubstr("no AVX2"));
  }
  const CpuFeatures avx2 = {.f16c = true, .avx2 = true};
  if (!Covers(Cpu(), avx2)) GTEST_SKIP() << "this CPU has no AVX2";
  const ScopedCpu lesser(avx2);
  EXPECT_TRUE(DescribeMachine().fast_path);
  EXPECT_EQ(DescribeMachine().cpu_path, "AVX2");
}

TEST(PeakRssTest, IsPositive) { EXPECT_GT(PeakRssBytes(), 0); }

TEST(MeasureReadSpeedThreadedTest, IsAboveADisk) {
  EXPECT_GT(MeasureReadSpeed(2), 1e8);
}

}  // namespace
}  // namespace pyramidkv
