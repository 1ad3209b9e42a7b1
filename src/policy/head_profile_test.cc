#include "policy/head_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace pyramidkv {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// The model has two layers of two KV heads.
Result<HeadProfile> Parse(const std::string& text) {
  return ParseHeadProfile(text, "heads.json", 2, 2);
}

TEST(ParseHeadProfileTest, Gates) {
  const auto profile = Parse(
      R"({"version": 1, "model": "small", "heads": [[0, 0.5], [1, 1e-3]]})");
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  EXPECT_EQ(profile->model, "small");
  EXPECT_EQ(profile->layers, 2);
  EXPECT_EQ(profile->kv_heads, 2);
  EXPECT_THAT(profile->gate, ElementsAre(0, 0.5, 1, 1e-3));
  EXPECT_TRUE(Parse(R"({"version": 1, "heads": [[0, 0], [0, 0]]})").ok());
}

TEST(ParseHeadProfileTest, ErrorsSayWhatAndWhere) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "not JSON from byte 1"},
      {R"({"version": 1,, })", "not JSON from byte 15"},
      {std::string(100000, '['), "not JSON from byte 100001"},
      {"\"\xff\"", "not JSON from byte 2"},
      {"[]", "not an object"},
      {"{}", "\"version\" is missing; this build reads 1"},
      {R"({"version": 2})", "\"version\" is 2; this build reads 1"},
      {R"({"version": [1]})", "\"version\" is a list"},
      {R"({"version": 1, "model": 3})", "\"model\" is not a string"},
      {R"({"version": 1})", "\"heads\" is not a list"},
      {R"({"version": 1, "heads": {}})", "\"heads\" is not a list"},
      {R"({"version": 1, "heads": [[0, 0]]})",
       "1 layers in \"heads\", the model has 2"},
      {R"({"version": 1, "heads": [[0, 0], 7]})", "layer 1 of \"heads\""},
      {R"({"version": 1, "heads": [[0, 0], [0]]})",
       "layer 1 has 1 gates, the model 2 KV heads"},
      {R"({"version": 1, "heads": [[0, 0], [0, 1.01]]})",
       "layer 1, head 1: gate 1.01"},
      {R"({"version": 1, "heads": [[-0.5, 0], [0, 1]]})",
       "layer 0, head 0: gate -0.5"},
      {R"({"version": 1, "heads": [[0, "0"], [0, 1]]})",
       "layer 0, head 1: gate \"0\""},
      {R"({"version": 1, "heads": [[0, null], [0, 1]]})", "gate null"},
      {R"({"version": 1, "heads": [[0, [[]]], [0, 1]]})", "gate a list"},
      {R"({"version": 1, "heads": [[0, 1e999], [0, 1]]})", "too large"}};
  for (const auto& [text, what] : cases) {
    const auto profile = Parse(text);
    ASSERT_FALSE(profile.ok()) << text.substr(0, 80);
    EXPECT_EQ(profile.status().code(), StatusCode::kUsage);
    EXPECT_THAT(profile.status().message(),
                AllOf(HasSubstr("heads.json: "), HasSubstr(what)));
  }
}

TEST(ParseHeadProfileTest, LongValuesAreShortInErrors) {
  const auto profile =
      Parse(R"({"version": ")" + std::string(5000, 'x') + R"("})");
  EXPECT_LT(profile.status().message().size(), 200u);
}

TEST(LoadHeadProfileTest, Files) {
  const std::string path = testing::TempDir() + "head_profile_test.json";
  std::ofstream(path) << R"({"version": 1, "heads": [[0.25]]})";
  const auto profile = LoadHeadProfile(path, 1, 1);
  ASSERT_TRUE(profile.ok()) << profile.status().message();
  EXPECT_THAT(profile->gate, ElementsAre(0.25));
  EXPECT_THAT(LoadHeadProfile(path, 2, 1).status().message(),
              AllOf(HasSubstr(path), HasSubstr("the model has 2")));
  std::ofstream(path) << std::string(5 << 20, ' ');
  EXPECT_THAT(LoadHeadProfile(path, 1, 1).status().message(),
              AllOf(HasSubstr(path), HasSubstr("larger than")));
  for (const std::string& missing :
       {testing::TempDir() + "no_such_profile.json", testing::TempDir()}) {
    const Status status = LoadHeadProfile(missing, 1, 1).status();
    EXPECT_EQ(status.code(), StatusCode::kUsage);
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr(missing), HasSubstr("cannot be read")));
  }
}

HeadProfile Profile(int layers, int kv_heads, std::vector<double> gate) {
  return {.model = "",
          .layers = layers,
          .kv_heads = kv_heads,
          .gate = std::move(gate)};
}

TEST(HeadProfileBudgetsTest, FullHeadsThenTheBestOfTheOthers) {
  const HeadProfile profile = Profile(2, 2, {0.1, 0.9, 0.5, 0.9});
  const HeadProfileOptions options = {.sinks = 2, .recent = 8};
  const auto budgets = [&](int64_t total) {
    return *HeadProfileBudgets(profile, 100, total, options);
  };
  EXPECT_THAT(budgets(40), ElementsAre(10, 10, 10, 10));
  EXPECT_THAT(budgets(41), ElementsAre(10, 11, 10, 10));
  EXPECT_THAT(budgets(130), ElementsAre(10, 100, 10, 10));
  EXPECT_THAT(budgets(135), ElementsAre(10, 100, 10, 15));
  EXPECT_THAT(budgets(221), ElementsAre(10, 100, 11, 100));
  EXPECT_THAT(budgets(400), ElementsAre(100, 100, 100, 100));
  EXPECT_THAT(budgets(401), ElementsAre(100, 100, 100, 100));
}

TEST(HeadProfileBudgetsTest, BelowTheLeast) {
  const auto budgets = HeadProfileBudgets(Profile(1, 2, {0, 1}), 100, 19,
                                          {.sinks = 2, .recent = 8});
  EXPECT_EQ(budgets.status().code(), StatusCode::kDoesNotFit);
  EXPECT_THAT(budgets.status().message(),
              AllOf(HasSubstr("19 entries"), HasSubstr("20 in all")));
  EXPECT_FALSE(HeadProfileBudgets(Profile(1, 2, {0, 1}), 100, 1,
                                  {.sinks = 0, .recent = 0})
                   .ok());
}

TEST(HeadProfileBudgetsTest, LawsOfEverySize) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 200; ++trial) {
    const int layers = 1 + rng() % 4, kv_heads = 1 + rng() % 4;
    const int heads = layers * kv_heads;
    std::vector<double> gate(heads);
    for (double& g : gate) g = rng() % 4 / 3.0;
    const HeadProfile profile = Profile(layers, kv_heads, gate);
    const int tokens = 1 + rng() % 30;
    const HeadProfileOptions options = {.sinks = static_cast<int>(rng() % 5),
                                        .recent = static_cast<int>(rng() % 9)};
    const int few =
        std::min(tokens, std::max(1, options.sinks + options.recent));
    std::vector<int> before(heads, few);
    for (int total = 0; total <= heads * tokens + 1; ++total) {
      const auto budgets = HeadProfileBudgets(profile, tokens, total, options);
      ASSERT_EQ(budgets.ok(), total >= heads * few);
      if (!budgets.ok()) continue;
      EXPECT_EQ(std::accumulate(budgets->begin(), budgets->end(), 0),
                std::min(total, heads * tokens));
      int between = 0;
      for (int i = 0; i < heads; ++i) {
        EXPECT_GE((*budgets)[i], before[i]);  // rises with the total
        EXPECT_LE((*budgets)[i], tokens);
        between += (*budgets)[i] > few && (*budgets)[i] < tokens;
        for (int j = 0; j < heads; ++j) {
          if (gate[i] > gate[j] || (gate[i] == gate[j] && i < j)) {
            EXPECT_GE((*budgets)[i], (*budgets)[j]);
          }
        }
      }
      EXPECT_LE(between, 1);
      before = *budgets;
    }
  }
}

}  // namespace
}  // namespace pyramidkv
