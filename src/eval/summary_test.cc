#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "eval/statistics.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

EvalTrial Answer(const std::string& spec, int trial, bool right) {
  EvalTrial t;
  t.spec = spec;
  t.trial = trial;
  t.right = right;
  t.kv_bytes = spec == "full" ? 1000 : 250 + trial;
  t.kv_bytes_full = 1000;
  t.retained_mass = 0.5 + trial / 16.0;
  t.context_tokens = 2000 + trial;
  t.scored_tokens = 5;
  return t;
}

// full: 1 1 1 0, other: 1 0 1 1.
std::vector<EvalTrial> FourTrials() {
  const bool full[] = {true, true, true, false};
  const bool other[] = {true, false, true, true};
  std::vector<EvalTrial> trials;
  for (int t = 0; t < 4; ++t) {
    trials.push_back(Answer("full", t, full[t]));
    trials.push_back(Answer("other", t, other[t]));
  }
  return trials;
}

TEST(SummaryTest, Answers) {
  const std::vector<EvalRow> rows = SummarizeEval(FourTrials());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].spec, "full");
  EXPECT_EQ(rows[0].difference, 0);
  const EvalRow& row = rows[1];
  EXPECT_EQ(row.spec, "other");
  EXPECT_EQ(row.trials, 4);
  EXPECT_EQ(row.right, 3);
  EXPECT_EQ(row.right_share.low, WilsonInterval(3, 4).low);
  EXPECT_EQ(row.difference, 0);
  const EvalInterval want =
      PairedInterval({.both = 2, .first = 1, .second = 1, .neither = 0});
  EXPECT_EQ(row.difference_interval.low, want.low);
  EXPECT_EQ(row.difference_interval.high, want.high);
  EXPECT_EQ(row.kv_bytes, 251.5);
  EXPECT_EQ(row.kv_bytes_full, 1000);
  EXPECT_EQ(row.retained_mass, 0.5 + 1.5 / 16);
  EXPECT_EQ(row.context_tokens, 2001.5);
  EXPECT_EQ(row.scored_tokens, 20);
  EXPECT_FALSE(row.divergence.has_value());
}

// Pairs are made by trial, not by place, and the sign is against `full`.
TEST(SummaryTest, LossesAreNegativeInAnyOrder) {
  std::vector<EvalTrial> trials;
  for (int t = 9; t >= 0; --t) trials.push_back(Answer("worse", t, t < 2));
  for (int t = 0; t < 10; ++t) trials.push_back(Answer("full", t, t < 8));
  const EvalRow row = SummarizeEval(trials)[0];
  EXPECT_NEAR(row.difference, -0.6, 1e-12);
  const EvalInterval want =
      PairedInterval({.both = 2, .first = 0, .second = 6, .neither = 2});
  EXPECT_EQ(row.difference_interval.low, want.low);
  EXPECT_EQ(row.difference_interval.high, want.high);
  EXPECT_LT(want.high, 0);
}

TEST(SummaryTest, UnknownMassAndWarnings) {
  std::vector<EvalTrial> trials = FourTrials();
  trials[3].retained_mass.reset();
  trials[3].warnings = {"first"};
  trials[5].warnings = {"second"};
  const auto rows = SummarizeEval(trials);
  EXPECT_TRUE(rows[0].retained_mass.has_value());
  EXPECT_FALSE(rows[1].retained_mass.has_value());
  EXPECT_EQ(rows[1].warnings, std::vector<std::string>{"first"});
}

TEST(SummaryTest, Divergences) {
  std::vector<EvalTrial> trials;
  for (int t = 0; t < 3; ++t) {
    trials.push_back(Answer("full", t, false));
    trials.back().divergence = EvalDivergence{0, 0, 1, 2, 2};
    trials.push_back(Answer("other", t, false));
    trials.back().divergence =
        EvalDivergence{0.1 * t, 1.0 * (3 - t), 0.5 + 0.1 * t, 2.0 + t, 2};
  }
  const EvalRow row = SummarizeEval(trials)[1];
  ASSERT_TRUE(row.divergence.has_value());
  EXPECT_NEAR(row.divergence->mean_kl, 0.1, 1e-12);
  EXPECT_EQ(row.divergence->max_kl, 3);
  EXPECT_NEAR(row.divergence->top1_agreement, 0.6, 1e-12);
  EXPECT_NEAR(row.divergence->nll, 3, 1e-12);
  EXPECT_EQ(row.divergence->nll_full, 2);
  ASSERT_TRUE(row.kl_interval.has_value());
  EXPECT_GE(row.kl_interval->low, 0);
  EXPECT_LT(row.kl_interval->low, 0.1);
  EXPECT_GT(row.kl_interval->high, 0.1);
  // One trial says nothing about others.
  const EvalRow one = SummarizeEval(std::span(trials).first(2))[1];
  EXPECT_FALSE(one.kl_interval.has_value());
}

TEST(SummaryTest, NoTrials) { EXPECT_TRUE(SummarizeEval({}).empty()); }

}  // namespace
}  // namespace pyramidkv
