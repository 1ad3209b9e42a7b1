#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "eval/placement.h"
#include "eval/prompts.h"
#include "eval/text_generator.h"
#include "eval/trial.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

constexpr int kProgressPerTrial = 1000;

Status CheckOptions(const EvalOptions& options) {
  if (options.tokens < 1 || options.trials < 1 || options.score_tokens < 1) {
    return Status::Usage("tokens and trials are at least 1");
  }
  for (const double depth : options.depths) {
    if (!(depth >= 0 && depth <= 1)) {
      return Status::Usage(
          fmt::format("depth {} is not within 0 (the beginning) and 1 (the "
                      "end)",
                      depth));
    }
  }
  return {};
}

// The full cache's and then those of the options, in canonical form, each
// once.
Result<std::vector<std::string>> CanonicalSpecs(Engine* engine,
                                                const EvalOptions& options) {
  std::vector<std::string> given = {"full"};
  given.insert(given.end(), options.specs.begin(), options.specs.end());
  std::vector<std::string> specs;
  for (const std::string& spec : given) {
    PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         engine->NewSession({.kv = spec, .max_new_tokens = 1}));
    std::string canonical = session->Report().spec;
    if (std::find(specs.begin(), specs.end(), canonical) == specs.end()) {
      specs.push_back(std::move(canonical));
    }
  }
  return specs;
}

// One evaluation: its trials one after the other.
class Evaluation {
 public:
  Evaluation(Engine* engine, const EvalOptions& options,
             const EvalCallbacks& callbacks)
      : engine_(engine),
        options_(options),
        callbacks_(callbacks),
        generator_(CounterOf(*engine)) {}

  Status Begin();
  Result<std::vector<EvalTrial>> Run(std::span<const EvalTrial> done);

 private:
  Status Complete(int trial, std::map<std::string, EvalTrial>* results);
  Result<std::vector<EvalTrial>> RunTrial(
      int trial, const std::vector<std::string>& specs);
  Result<std::vector<int>> TokensOfTrial(int trial) const;
  // This trial's share of all progress.
  Progress ProgressOfTrial(int trial) const;

  // Tokens that a trial of kKl needs: the last one is only predicted.
  int64_t WindowTokens() const {
    return int64_t{options_.tokens} + options_.score_tokens + 1;
  }

  Engine* engine_;
  const EvalOptions& options_;
  const EvalCallbacks& callbacks_;
  TextGenerator generator_;
  int trials_ = 0;
  std::vector<std::string> specs_;
  std::vector<int> head_;  // what the model puts in front of a text
  std::vector<int> text_;  // options.text after that
};

Status Evaluation::Begin() {
  PKV_RETURN_IF_ERROR(CheckOptions(options_));
  PKV_ASSIGN_OR_RETURN(specs_, CanonicalSpecs(engine_, options_));
  trials_ = options_.trials;
  if (options_.task != EvalTask::kKl || options_.text.empty()) return {};
  PKV_ASSIGN_OR_RETURN(head_, TokenizeBeginning(*engine_, ""));
  PKV_ASSIGN_OR_RETURN(
      text_, engine_->Tokenize(options_.text,
                               {.add_special = false, .parse_special = false}));
  // Windows share the one token that is only predicted.
  const int64_t step = WindowTokens() - 1 - std::ssize(head_);
  if (step < 1 || std::ssize(text_) <= step) {
    return Status::Usage(
        fmt::format("the text has {} tokens, and a trial takes {}",
                    text_.size(), step + 1));
  }
  trials_ = static_cast<int>(
      std::min<int64_t>(trials_, (std::ssize(text_) - 1) / step));
  return {};
}

Result<std::vector<int>> Evaluation::TokensOfTrial(int trial) const {
  const int64_t window = WindowTokens();
  if (text_.empty()) {
    const std::string text =
        MakeText(generator_, static_cast<int>(window), options_, trial);
    PKV_ASSIGN_OR_RETURN(std::vector<int> tokens,
                         TokenizeBeginning(*engine_, text));
    if (std::ssize(tokens) < window) {
      return Status::Runtime(fmt::format(
          "the generated text has {} tokens instead of {}: give a text",
          tokens.size(), window));
    }
    tokens.resize(window);
    return tokens;
  }
  std::vector<int> tokens = head_;
  const int64_t length = window - std::ssize(head_);
  const auto begin = text_.begin() + trial * (length - 1);
  tokens.insert(tokens.end(), begin, begin + length);
  return tokens;
}

Progress Evaluation::ProgressOfTrial(int trial) const {
  if (!callbacks_.progress) return {};
  return [this, trial](int64_t done, int64_t total) {
    const int64_t share = total > 0 ? kProgressPerTrial * done / total : 0;
    return callbacks_.progress(int64_t{trial} * kProgressPerTrial + share,
                               int64_t{trials_} * kProgressPerTrial);
  };
}

Result<std::vector<EvalTrial>> Evaluation::RunTrial(
    int trial, const std::vector<std::string>& specs) {
  EvalCallbacks callbacks = callbacks_;
  callbacks.progress = ProgressOfTrial(trial);
  const TrialContext context{engine_, &options_, &callbacks};
  std::vector<EvalTrial> results;
  if (options_.task == EvalTask::kKl) {
    PKV_ASSIGN_OR_RETURN(const std::vector<int> tokens, TokensOfTrial(trial));
    PKV_ASSIGN_OR_RETURN(results, RunDivergenceTrial(context, tokens, specs));
  } else {
    PKV_ASSIGN_OR_RETURN(const Prompt prompt,
                         MakePrompt(generator_, options_, trial));
    PKV_ASSIGN_OR_RETURN(results, RunAnswerTrial(context, prompt, specs));
  }
  for (EvalTrial& result : results) result.trial = trial;
  return results;
}

// Adds what is missing of `trial` to `results`, by spec.
Status Evaluation::Complete(int trial,
                            std::map<std::string, EvalTrial>* results) {
  std::vector<std::string> specs;
  for (const std::string& spec : specs_) {
    if (!results->contains(spec)) specs.push_back(spec);
  }
  if (specs.empty()) return {};
  // Divergence is from the full cache, whose own result may be there already.
  if (options_.task == EvalTask::kKl && specs.front() != specs_.front()) {
    specs.insert(specs.begin(), specs_.front());
  }
  PKV_ASSIGN_OR_RETURN(const std::vector<EvalTrial> added,
                       RunTrial(trial, specs));
  for (const EvalTrial& result : added) {
    if (!results->try_emplace(result.spec, result).second) continue;
    if (!callbacks_.on_trial) continue;
    PKV_RETURN_IF_ERROR(callbacks_.on_trial(result));
  }
  return {};
}

Result<std::vector<EvalTrial>> Evaluation::Run(
    std::span<const EvalTrial> done) {
  std::vector<EvalTrial> all;
  for (int t = 0; t < trials_; ++t) {
    std::map<std::string, EvalTrial> results;
    for (const EvalTrial& d : done) {
      if (d.trial == t) results.try_emplace(d.spec, d);
    }
    PKV_RETURN_IF_ERROR(Complete(t, &results));
    for (const std::string& spec : specs_) {
      all.push_back(std::move(results[spec]));
    }
  }
  return all;
}

}  // namespace

Result<std::vector<EvalTrial>> RunEval(Engine* engine,
                                       const EvalOptions& options,
                                       std::span<const EvalTrial> done,
                                       const EvalCallbacks& callbacks) {
  Evaluation evaluation(engine, options, callbacks);
  PKV_RETURN_IF_ERROR(evaluation.Begin());
  return evaluation.Run(done);
}

}  // namespace pyramidkv
