#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "eval/divergence.h"
#include "eval/placement.h"
#include "eval/testing/tiny_eval.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RunEvalTest : public testing::Test {
 protected:
  EvalOptions Small(EvalTask task, std::vector<std::string> specs) {
    EvalOptions options;
    options.task = task;
    options.specs = std::move(specs);
    options.tokens = 300;
    options.trials = 3;
    options.score_tokens = 20;
    return options;
  }

  std::unique_ptr<Engine> engine_ = TinyEvalEngine();
};

TEST_F(RunEvalTest, EveryTrialHasEveryCacheOnceAndTheFullOneFirst) {
  const EvalOptions options = Small(
      EvalTask::kPasskey,
      {"snapkv,keep=0.50", "full", "snapkv,keep=0.5", "pyramidkv,keep=0.4"});
  std::vector<std::string> reported;
  EvalCallbacks callbacks;
  callbacks.on_trial = [&](const EvalTrial& trial) -> Status {
    reported.push_back(std::to_string(trial.trial) + " " + trial.spec);
    return {};
  };
  const auto trials = RunOk(engine_.get(), options, {}, callbacks);
  std::vector<std::string> returned;
  for (const EvalTrial& t : trials) {
    returned.push_back(std::to_string(t.trial) + " " + t.spec);
    EXPECT_NEAR(t.context_tokens, 330, 20);
    EXPECT_EQ(t.expected.size(), 5u);
    EXPECT_EQ(t.right, t.answer.starts_with(t.expected));
  }
  EXPECT_THAT(
      returned,
      ElementsAre("0 full", "0 snapkv,keep=0.5", "0 pyramidkv,keep=0.4",
                  "1 full", "1 snapkv,keep=0.5", "1 pyramidkv,keep=0.4",
                  "2 full", "2 snapkv,keep=0.5", "2 pyramidkv,keep=0.4"));
  EXPECT_EQ(reported, returned);
}

// Answers of a session alone: neither the shared prefill nor the batch may
// change them.
TEST_F(RunEvalTest, AnswersAreThoseOfASessionOfItsOwn) {
  const TextGenerator generator(CounterOf(*engine_));
  std::set<std::string> different;
  for (const EvalPlacement placement :
       {EvalPlacement::kAgnostic, EvalPlacement::kAware,
        EvalPlacement::kWhole}) {
    EvalOptions options =
        Small(EvalTask::kPasskey, {"snapkv,keep=0.5", "pyramidkv,keep=0.4"});
    options.placement = placement;
    options.trials = 1;
    for (const EvalTrial& trial : RunOk(engine_.get(), options)) {
      const auto prompt = MakePrompt(generator, options, trial.trial);
      ASSERT_TRUE(prompt.ok());
      const auto placed = PlacePrompt(*engine_, *prompt, placement);
      ASSERT_TRUE(placed.ok());
      auto session = MakeSession(engine_.get(), trial.spec);
      ASSERT_TRUE(session->Read(placed->read, {}).ok());
      EXPECT_EQ(session->Report().bytes, trial.kv_bytes);
      EXPECT_EQ(session->Report().retained_mass, trial.retained_mass);
      ASSERT_TRUE(session->Force(placed->forced).ok());
      GenerateOptions answer_options;
      answer_options.max_tokens = trial.scored_tokens;
      const auto answer = session->Generate(answer_options);
      ASSERT_TRUE(answer.ok());
      std::vector<int> ids;
      for (const GeneratedToken& token : answer->tokens)
        ids.push_back(token.id);
      std::string text = engine_->Detokenize(ids);
      text.erase(0, text.find_first_not_of(' '));
      EXPECT_EQ(text, trial.answer) << trial.spec;
      EXPECT_EQ(static_cast<int>(ids.size()), trial.scored_tokens);
      different.insert(text);
    }
  }
  EXPECT_GE(different.size(), 4u) << "too few to tell caches apart";
}

TEST_F(RunEvalTest, KeepOneAnswersAsTheFullCacheDoes) {
  for (const EvalTask task : {EvalTask::kPasskey, EvalTask::kNeedle}) {
    const auto trials = RunOk(engine_.get(), Small(task, {"snapkv,keep=1"}));
    ASSERT_EQ(trials.size(), 6u);
    for (size_t i = 0; i < trials.size(); i += 2) {
      EXPECT_EQ(trials[i].answer, trials[i + 1].answer);
      EXPECT_EQ(trials[i].kv_bytes, trials[i + 1].kv_bytes);
    }
  }
}

TEST_F(RunEvalTest, DivergenceIsThatOfTheForcedLogits) {
  EvalOptions options = Small(EvalTask::kKl, {"snapkv,keep=0.4,window=8"});
  options.text = std::string(100, 'x');
  for (int i = 0; i < 1000; ++i) {
    options.text += static_cast<char>('a' + (i * i + i / 7) % 26);
  }
  options.trials = 2;
  const auto trials = RunOk(engine_.get(), options);
  ASSERT_EQ(trials.size(), 4u);
  const auto body = engine_->Tokenize(options.text, {.add_special = false});
  std::vector<int> all = *TokenizeBeginning(*engine_, "");
  all.insert(all.end(), body->begin(), body->end());
  const std::vector<int> read(all.begin(), all.begin() + 300);
  const std::vector<int> forced(all.begin() + 300, all.begin() + 320);
  auto full = MakeSession(engine_.get(), "full");
  auto cache = MakeSession(engine_.get(), options.specs[0]);
  ASSERT_TRUE(full->Read(read, {}).ok());
  ASSERT_TRUE(cache->Read(read, {}).ok());
  const auto rows = *full->Force(forced), others = *cache->Force(forced);
  const size_t width = rows.size() / forced.size();
  DivergenceSum sum;
  for (size_t i = 0; i < forced.size(); ++i) {
    sum.Add(Distribution({&rows[i * width], width}),
            Distribution({&others[i * width], width}), all[300 + i + 1]);
  }
  const EvalDivergence want = sum.Mean();
  ASSERT_TRUE(trials[1].divergence.has_value());
  EXPECT_EQ(trials[1].divergence->mean_kl, want.mean_kl);
  EXPECT_EQ(trials[1].divergence->max_kl, want.max_kl);
  EXPECT_EQ(trials[1].divergence->nll, want.nll);
  EXPECT_EQ(trials[1].divergence->nll_full, want.nll_full);
  EXPECT_GT(want.mean_kl, 0);
  // The next trial goes on where this one ended.
  EXPECT_NE(trials[3].divergence->nll_full, want.nll_full);
}

TEST_F(RunEvalTest, FullAndKeepOneDoNotDiverge) {
  const auto trials =
      RunOk(engine_.get(), Small(EvalTask::kKl, {"snapkv,keep=1"}));
  ASSERT_EQ(trials.size(), 6u);
  for (const EvalTrial& trial : trials) {
    EXPECT_EQ(trial.divergence->mean_kl, 0) << trial.spec;
    EXPECT_EQ(trial.divergence->max_kl, 0);
    EXPECT_EQ(trial.divergence->top1_agreement, 1);
    EXPECT_EQ(trial.divergence->nll, trial.divergence->nll_full);
    EXPECT_EQ(trial.context_tokens, 300);
    EXPECT_EQ(trial.scored_tokens, 20);
  }
}

TEST_F(RunEvalTest, ATextGivesAsManyTrialsAsItHasWindows) {
  EvalOptions options = Small(EvalTask::kKl, {});
  const size_t head = TokenizeBeginning(*engine_, "")->size();
  const size_t step = 300 + 20 - head;
  options.trials = 10;
  // Letters of no word in the vocabulary, and the mark of a text's beginning.
  const auto text_of = [&](size_t tokens) { return std::string(tokens, '@'); };
  const size_t extra =
      engine_->Tokenize(text_of(10), {.add_special = false})->size() - 10;
  for (const size_t trials : {1, 2, 3}) {
    options.text = text_of(trials * step + 1 - extra);
    EXPECT_EQ(RunOk(engine_.get(), options).size(), trials);
  }
  options.text = text_of(step - extra);
  const auto none = RunEval(engine_.get(), options, {}, {});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), StatusCode::kUsage);
  EXPECT_THAT(none.status().message(), HasSubstr("a trial takes"));
}

TEST_F(RunEvalTest, OnlyWhatIsMissingRuns) {
  for (const EvalTask task : {EvalTask::kPasskey, EvalTask::kKl}) {
    const EvalOptions options =
        Small(task, {"snapkv,keep=0.5", "pyramidkv,keep=0.4"});
    const auto all = RunOk(engine_.get(), options);
    ASSERT_EQ(all.size(), 9u);
    std::vector<EvalTrial> done(all.begin(), all.begin() + 4);
    done.push_back(all[8]);
    int ran = 0;
    EvalCallbacks callbacks;
    callbacks.on_trial = [&](const EvalTrial&) -> Status {
      ++ran;
      return {};
    };
    const auto resumed = RunOk(engine_.get(), options, done, callbacks);
    EXPECT_EQ(ran, 4);
    EXPECT_EQ(Lines(*engine_, options, resumed), Lines(*engine_, options, all));
    RunOk(engine_.get(), options, all, callbacks);
    EXPECT_EQ(ran, 4);
  }
}

TEST_F(RunEvalTest, ErrorsOfTheCallbackAndCancellationEndIt) {
  const EvalOptions options = Small(EvalTask::kPasskey, {"snapkv,keep=0.5"});
  EvalCallbacks callbacks;
  int calls = 0;
  callbacks.on_trial = [&](const EvalTrial&) -> Status {
    return ++calls < 2 ? Status() : Status::Runtime("disk full");
  };
  const auto failed = RunEval(engine_.get(), options, {}, callbacks);
  EXPECT_EQ(failed.status().message(), "disk full");
  EXPECT_EQ(calls, 2);

  // At every point where it may stop.
  int64_t last = 0;
  int asked = 0;
  callbacks = {};
  callbacks.progress = [&](int64_t done, int64_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, 3000);
    last = done;
    ++asked;
    return true;
  };
  RunOk(engine_.get(), options, {}, callbacks);
  EXPECT_EQ(last, 3000);
  for (int stop = 1; stop <= asked; stop += std::max(1, asked / 4)) {
    int left = stop;
    callbacks.progress = [&](int64_t, int64_t) { return --left > 0; };
    const auto cancelled = RunEval(engine_.get(), options, {}, callbacks);
    EXPECT_EQ(cancelled.status().code(), StatusCode::kCancelled) << stop;
  }
}

TEST_F(RunEvalTest, BadOptionsAreRefused) {
  const auto status = [&](const EvalOptions& options) {
    return RunEval(engine_.get(), options, {}, {}).status();
  };
  EvalOptions options = Small(EvalTask::kPasskey, {"snapkv,kep=0.5"});
  EXPECT_EQ(status(options).code(), StatusCode::kUsage);
  options = Small(EvalTask::kPasskey, {"snapkv,tokens=2"});
  EXPECT_EQ(status(options).code(), StatusCode::kDoesNotFit);
  options = Small(EvalTask::kPasskey, {});
  options.tokens = 5000;
  EXPECT_EQ(status(options).code(), StatusCode::kDoesNotFit);
  options.tokens = 10;
  EXPECT_EQ(status(options).code(), StatusCode::kUsage);
  options = Small(EvalTask::kPasskey, {});
  options.depths = {1.5};
  EXPECT_THAT(status(options).message(), HasSubstr("1.5"));
  options = Small(EvalTask::kPasskey, {});
  options.trials = 0;
  EXPECT_EQ(status(options).code(), StatusCode::kUsage);
  options = Small(EvalTask::kKl, {});
  options.text = "\xff\xfe";
  EXPECT_THAT(status(options).message(), HasSubstr("UTF-8"));
}

}  // namespace
}  // namespace pyramidkv
