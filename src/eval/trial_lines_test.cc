// Trials as lines and back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "eval/prompts.h"
#include "eval/testing/tiny_eval.h"
#include "kernels/matmul_int8.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

using testing::HasSubstr;

EvalTrial AnswerTrial(const EvalOptions& options, const std::string& spec,
                      int trial) {
  EvalTrial t;
  t.spec = spec;
  t.trial = trial;
  t.kv_bytes = 123456789012;
  t.kv_bytes_full = 987654321098;
  t.retained_mass = 0.1;
  t.warnings = {"a \"warning\""};
  t.context_tokens = 2000;
  t.scored_tokens = 5;
  t.depth = DepthOfTrial(options, trial);
  t.expected = "12345";
  t.answer = "12\xc3";  // ends inside of a character
  return t;
}

class TrialLinesTest : public testing::Test {
 protected:
  std::vector<EvalTrial> Parse(const EvalOptions& options,
                               const std::string& lines) {
    const auto trials = ParseEvalTrials(*engine_, options, lines);
    EXPECT_TRUE(trials.ok()) << trials.status().message();
    return trials.ok() ? *trials : std::vector<EvalTrial>();
  }

  std::unique_ptr<Engine> engine_ = TinyEvalEngine();
};

TEST_F(TrialLinesTest, AnswersGoThere) {
  const EvalOptions options;
  EvalTrial trial = AnswerTrial(options, "snapkv,keep=0.3", 7);
  const std::string line = FormatEvalTrial(*engine_, options, trial);
  for (const char* part :
       {R"("task":"passkey")", R"("variant":"plain")", R"("seed":0)",
        R"("placement":"whole")", R"("spec":"snapkv,keep=0.3")", R"("trial":7)",
        R"("tokens":2000)", R"("expected":"12345")", R"("right":false)",
        R"("kv_bytes":123456789012)", R"("kv_bytes_full":987654321098)",
        R"("retained_mass":0.1)", R"("context_tokens":2000)",
        R"("scored_tokens":5)"}) {
    EXPECT_THAT(line, HasSubstr(part));
  }
  EXPECT_EQ(line.find('\n'), line.npos);
}

TEST_F(TrialLinesTest, AndBack) {
  const EvalOptions options;
  std::vector<EvalTrial> trials = {AnswerTrial(options, "full", 0),
                                   AnswerTrial(options, "full", 1)};
  trials[1].right = true;
  trials[1].answer = "12345";
  trials[1].retained_mass.reset();
  trials[1].warnings.clear();
  const std::string lines = Lines(*engine_, options, trials);
  const auto parsed = Parse(options, lines);
  ASSERT_EQ(parsed.size(), 2u);
  EXPECT_EQ(Lines(*engine_, options, parsed), lines);
  EXPECT_TRUE(parsed[1].right);
  EXPECT_FALSE(parsed[1].retained_mass.has_value());
}

TEST_F(TrialLinesTest, DivergencesThereAndBack) {
  EvalOptions options;
  options.task = EvalTask::kKl;
  EvalTrial trial;
  trial.spec = "full";
  trial.divergence = EvalDivergence{.mean_kl = 1.0 / 3,
                                    .max_kl = 1e-17,
                                    .top1_agreement = 0.7,
                                    .nll = 2.1,
                                    .nll_full = 2.0};
  const std::string line = FormatEvalTrial(*engine_, options, trial) + "\n";
  EXPECT_EQ(line.find("\"right\""), line.npos);
  EXPECT_EQ(line.find("\"variant\""), line.npos);
  const auto parsed = Parse(options, line);
  ASSERT_EQ(parsed.size(), 1u);
  EXPECT_EQ(parsed[0].divergence->mean_kl, 1.0 / 3);
  EXPECT_EQ(parsed[0].divergence->max_kl, 1e-17);
  EXPECT_EQ(Lines(*engine_, options, parsed), line);
}

TEST_F(TrialLinesTest, ATornLastLineIsLeftOut) {
  const EvalOptions options;
  const std::string lines =
      Lines(*engine_, options,
            {AnswerTrial(options, "full", 0), AnswerTrial(options, "full", 1)});
  const size_t first = lines.find('\n') + 1;
  for (size_t length = 0; length <= lines.size(); ++length) {
    const size_t whole = length == lines.size() ? 2 : length >= first ? 1 : 0;
    ASSERT_EQ(Parse(options, lines.substr(0, length)).size(), whole) << length;
  }
}

// Trials of other options stay in the file and out of the result.
TEST_F(TrialLinesTest, OtherOptionsDoNotMatch) {
  const EvalOptions options;
  const std::string lines =
      Lines(*engine_, options, {AnswerTrial(options, "full", 1)});
  ASSERT_EQ(Parse(options, lines).size(), 1u);
  const std::vector<std::function<void(EvalOptions*)>> changes = {
      [](EvalOptions* o) { o->task = EvalTask::kNeedle; },
      [](EvalOptions* o) { o->task = EvalTask::kKl; },
      [](EvalOptions* o) { o->variant = EvalVariant::kRev; },
      [](EvalOptions* o) { o->placement = EvalPlacement::kAware; },
      [](EvalOptions* o) { o->tokens = 1999; },
      [](EvalOptions* o) { o->seed = 1; },
      [](EvalOptions* o) { o->depths = {0.5}; }};
  for (size_t i = 0; i < changes.size(); ++i) {
    EvalOptions other = options;
    changes[i](&other);
    EXPECT_TRUE(Parse(other, lines).empty()) << i;
  }
  // These do not change what a trial is.
  EvalOptions same = options;
  same.trials = 100;
  same.specs = {"snapkv,keep=0.3"};
  EXPECT_EQ(Parse(same, lines).size(), 1u);
}

// Nor those of other arithmetic.
TEST_F(TrialLinesTest, TheArithmeticMatters) {
  TinyGgufOptions model;
  const EvalOptions options;
  for (Compute made : {Compute::kF32, Compute::kBf16, Compute::kInt8}) {
    if (made == Compute::kInt8 && !HasInt8Products()) continue;
    const auto engine = TinyEngine(model, 1, made);
    const std::string lines =
        Lines(*engine, options, {AnswerTrial(options, "full", 1)});
    EXPECT_THAT(lines, HasSubstr(std::string("\"compute\":\"") +
                                 ComputeName(made) + "\""));
    for (Compute asked : {Compute::kF32, Compute::kBf16, Compute::kInt8}) {
      if (asked == Compute::kInt8 && !HasInt8Products()) continue;
      const auto other = TinyEngine(model, 1, asked);
      const auto trials = ParseEvalTrials(*other, options, lines);
      ASSERT_TRUE(trials.ok());
      EXPECT_EQ(trials->size(), made == asked ? 1u : 0u)
          << ComputeName(made) << " for " << ComputeName(asked);
    }
  }
}

TEST_F(TrialLinesTest, TheTextOfADivergenceMatters) {
  EvalOptions options;
  options.task = EvalTask::kKl;
  options.text = "one text";
  EvalTrial trial;
  trial.divergence.emplace();
  const std::string line = FormatEvalTrial(*engine_, options, trial) + "\n";
  EXPECT_EQ(Parse(options, line).size(), 1u);
  options.text = "one test";
  EXPECT_TRUE(Parse(options, line).empty());
}

TEST_F(TrialLinesTest, WhatIsNoTrialIsAnError) {
  const EvalOptions options;
  const std::string good =
      Lines(*engine_, options, {AnswerTrial(options, "full", 0)});
  std::string wrong_type = good;
  wrong_type.replace(wrong_type.find("\"12345\""), 7, "12345");
  for (const std::string& bad :
       {std::string("not json\n"), std::string("{\"a\":\n"), std::string("\n"),
        wrong_type}) {
    const auto trials = ParseEvalTrials(*engine_, options, good + bad);
    ASSERT_FALSE(trials.ok()) << bad;
    EXPECT_EQ(trials.status().code(), StatusCode::kUsage);
    EXPECT_THAT(trials.status().message(), HasSubstr("line 2"));
  }
}

}  // namespace
}  // namespace pyramidkv
