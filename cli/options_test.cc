#include "cli/options.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(MergeCacheTypeTest, AddsWhatTheSpecDoesNotSay) {
  EXPECT_EQ(*MergeCacheType("full", "type_k", "f32"), "full,type_k=f32");
  EXPECT_EQ(*MergeCacheType("full", "type", "f16"), "full,type=f16");
  EXPECT_EQ(*MergeCacheType("full,type_k=f32", "type_v", "f32"),
            "full,type_k=f32,type_v=f32");
  EXPECT_EQ(*MergeCacheType("full,type_k=f32", "type", "f32"),
            "full,type_k=f32,type=f32");
}

TEST(MergeCacheTypeTest, TakesTheNamesOfLlamaCpp) {
  EXPECT_EQ(*MergeCacheType("full", "type_k", "q8_0"), "full,type_k=int8");
  EXPECT_EQ(*MergeCacheType("full,type_v=int4", "type_v", "q4_0"),
            "full,type_v=int4");
  EXPECT_EQ(*MergeCacheType("full", "type_v", "int2"), "full,type_v=int2");
}

TEST(MergeCacheTypeTest, TakesCapitals) {
  EXPECT_EQ(*MergeCacheType("full", "type_k", "Q8_0"), "full,type_k=int8");
  EXPECT_EQ(*MergeCacheType("full", "type_v", "F16"), "full,type_v=f16");
}

TEST(ResolveSpecsTest, TidiesWhatIsTyped) {
  CacheFlags flags;
  flags.specs = {"SnapKV, keep=0.3, type=q8_0"};
  EXPECT_THAT(*ResolveSpecs(flags), ElementsAre("snapkv,keep=0.3,type=int8"));
  flags.type_k = "INT8";  // says the same
  EXPECT_THAT(*ResolveSpecs(flags), ElementsAre("snapkv,keep=0.3,type=int8"));
}

TEST(MergeCacheTypeTest, LeavesWhatTheSpecSaysAlready) {
  EXPECT_EQ(*MergeCacheType("full,type=f32", "type_k", "f32"), "full,type=f32");
  EXPECT_EQ(*MergeCacheType("full,type_v=f32", "type_v", "f32"),
            "full,type_v=f32");
  EXPECT_EQ(*MergeCacheType("full,type=f16,type_k=f32", "type_k", "f32"),
            "full,type=f16,type_k=f32");
}

TEST(MergeCacheTypeTest, RefusesContradictions) {
  for (const char* spec : {"full,type=f16", "full,type_k=bf16"}) {
    const auto merged = MergeCacheType(spec, "type_k", "f32");
    ASSERT_FALSE(merged.ok()) << spec;
    EXPECT_EQ(merged.status().code(), StatusCode::kUsage);
    EXPECT_THAT(merged.status().message(), HasSubstr("--cache-type-k f32"));
  }
  EXPECT_FALSE(MergeCacheType("full,type_v=f32", "type", "f16").ok());
}

TEST(MergeCacheTypeTest, RefusesOtherTypes) {
  for (const char* type : {"q5_1", "int3", "", "F61"}) {
    const auto merged = MergeCacheType("full", "type_v", type);
    ASSERT_FALSE(merged.ok()) << type;
    EXPECT_EQ(merged.status().code(), StatusCode::kUsage);
    EXPECT_THAT(merged.status().message(),
                HasSubstr("allowed: f32, f16, bf16"));
  }
}

TEST(ResolveSpecsTest, FullIsTheDefault) {
  EXPECT_THAT(*ResolveSpecs({}), ElementsAre("full"));
  CacheFlags flags;
  flags.specs = {"full", "snapkv,keep=0.3"};
  flags.type_k = "f32";
  EXPECT_THAT(*ResolveSpecs(flags),
              ElementsAre("full,type_k=f32", "snapkv,keep=0.3,type_k=f32"));
}

TEST(ResolveThreadsTest, FlagThenEnvironment) {
  setenv("OMP_NUM_THREADS", "3,2", 1);
  EXPECT_EQ(ResolveThreads(5), 5);
  EXPECT_EQ(ResolveThreads(0), 3);
  setenv("OMP_NUM_THREADS", "many", 1);
  EXPECT_EQ(ResolveThreads(0), 0);
  unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(ResolveThreads(0), 0);
}

TEST(BindEnvironmentTest, FlagsBeatTheEnvironment) {
  setenv("PYRAMIDKV_ARG_N_PREDICT", "7", 1);
  setenv("PYRAMIDKV_ARG_IGNORE_EOS", "enabled", 1);
  GenerationFlags flags;
  CLI::App app;
  AddGenerationFlags(&app, &flags);
  BindEnvironment(&app);
  app.parse("", false);
  EXPECT_EQ(flags.predict, 7);
  EXPECT_TRUE(flags.ignore_eos);
  app.parse("-n 9", false);
  EXPECT_EQ(flags.predict, 9);
  unsetenv("PYRAMIDKV_ARG_N_PREDICT");
  unsetenv("PYRAMIDKV_ARG_IGNORE_EOS");
}

TEST(KeepShortContexts, OnlyWhereKeepIsTheBudget) {
  EXPECT_EQ(KeepShortContexts("snapkv-wide,keep=0.5", 0),
            "snapkv-wide,keep=0.5,from=512");
  EXPECT_EQ(KeepShortContexts("snapkv-wide,keep=0.5", 600),
            "snapkv-wide,keep=0.5,from=300");
  for (const char* spec :
       {"full", "full,type=int8", "snapkv,tokens=64", "snapkv,memory=1MiB",
        "snapkv,keep=1", "snapkv,keep=0.5,from=0", "infinigen"}) {
    EXPECT_EQ(KeepShortContexts(spec, 0), spec);
  }
}

}  // namespace
}  // namespace pyramidkv::cli
