// One trial: a prompt, read once into the caches of several sessions.

#ifndef PYRAMIDKV_EVAL_TRIAL_H_
#define PYRAMIDKV_EVAL_TRIAL_H_

#include <span>
#include <string>
#include <vector>

#include "eval/prompts.h"
#include "pyramidkv/engine.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {

// Shared by all trials of a run.
struct TrialContext {
  Engine* engine = nullptr;
  const EvalOptions* options = nullptr;
  const EvalCallbacks* callbacks = nullptr;  // progress: of this trial alone
};

// Compresses what the placement says, forces the rest, and lets every cache
// answer, token by token and all in one batch. One result for each spec.
Result<std::vector<EvalTrial>> RunAnswerTrial(
    const TrialContext& context, const Prompt& prompt,
    std::span<const std::string> specs);

// Reads the first options.tokens of `tokens`, forces the next
// options.score_tokens in every cache and compares the logits after each with
// those of specs[0]; the token after it is what the perplexity is of.
// REQUIRES: one token more than both.
Result<std::vector<EvalTrial>> RunDivergenceTrial(
    const TrialContext& context, std::span<const int> tokens,
    std::span<const std::string> specs);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_TRIAL_H_
