#include "policy/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace pyramidkv {
namespace {

TEST(RegistryTest, NamesInOrder) {
  std::vector<std::string_view> names;
  for (const Preset& p : Presets()) names.push_back(p.name);
  EXPECT_THAT(names,
              testing::ElementsAre(
                  "full", "streaming-llm", "h2o", "snapkv", "pyramidkv",
                  "snapkv-wide", "tova", "knorm", "keydiff",
                  "expected-attention", "chunkkv", "kvzip", "far-attention",
                  "r-kv", "duo-attention", "infinigen", "llama", "mistral"));
  EXPECT_EQ(FindPreset("Full"), nullptr);
}

// Every row can be used as it stands, or with a budget beside it.
TEST(RegistryTest, EveryRowIsALegalSpec) {
  for (const Preset& p : Presets()) {
    ASSERT_EQ(FindPreset(p.name), &p);
    EXPECT_EQ(p.spec.policy, p.name);
    EXPECT_FALSE(p.summary.empty());
    CacheSpec want = p.spec;
    std::string text(p.name);
    if (p.spec.compresses) {
      text += ",keep=0.5";
      want.budget.keep = 0.5;
      want.budget.tokens.reset();
    }
    if (p.spec.budget.heads == HeadSplit::kProfile) {
      text += ",profile=heads.json";
      want.budget.profile = "heads.json";
    }
    const Result<CacheSpec> spec = ParseCacheSpec(text);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    EXPECT_EQ(*spec, want) << text;
    EXPECT_EQ(FormatCacheSpec(want), text);
  }
}

// A preset that nobody can read about does not exist.
TEST(RegistryTest, EveryRowIsInTheDocuments) {
  for (const char* name : {"policies.md", "cache-spec.md"}) {
    std::ifstream file(std::string(PYRAMIDKV_SOURCE_DIR "/docs/") + name);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    ASSERT_FALSE(text.empty()) << name;
    for (const Preset& p : Presets()) {
      if (p.name == "full" && name[0] == 'p') continue;  // keeps everything
      std::string quoted = "`";
      quoted.append(p.name).append("`");
      EXPECT_NE(text.find(quoted), text.npos) << p.name << " in docs/" << name;
    }
  }
}

TEST(RegistryTest, ExamplesAreLegal) {
  const auto specs = ExampleSpecs("heads.json");
  EXPECT_GT(specs.size(), 2 * Presets().size());
  for (const std::string& text : specs) {
    const Result<CacheSpec> spec = ParseCacheSpec(text);
    EXPECT_TRUE(spec.ok()) << spec.status().message();
  }
}

TEST(RegistryTest, WhatThePapersSay) {
  const CacheSpec& snapkv = FindPreset("snapkv")->spec;
  EXPECT_EQ(snapkv.score.window, 32);
  EXPECT_EQ(snapkv.score.recent, 32);
  EXPECT_EQ(snapkv.score.kernel, 5);
  EXPECT_EQ(snapkv.score.sinks, 0);
  const CacheSpec& pyramid = FindPreset("pyramidkv")->spec;
  EXPECT_EQ(pyramid.budget.schedule, ScheduleKind::kArithmetic);
  EXPECT_EQ(pyramid.budget.beta, 20);
  const CacheSpec& wide = FindPreset("snapkv-wide")->spec;
  EXPECT_EQ(wide.budget.heads, HeadSplit::kGlobal);
  EXPECT_EQ(wide.score.kernel, 31);
  EXPECT_EQ(wide.budget.floor, 0.2);
  EXPECT_EQ(FindPreset("mistral")->spec.budget.sliding_window, 4096);
  EXPECT_EQ(FindPreset("mistral")->spec.budget.min, 128);
  EXPECT_EQ(FindPreset("llama")->spec.budget.warmup, 0.1);
}

}  // namespace
}  // namespace pyramidkv
