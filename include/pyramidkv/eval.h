// Quality of compressed caches, measured against the full cache: pass keys
// and needles hidden in long texts, and the divergence of the logits.
//
//   const EvalOptions options{.specs = specs, .tokens = 600, .trials = trials};
//   PKV_ASSIGN_OR_RETURN(auto results, RunEval(engine.get(), options, {}, {}));
//   for (const auto& row : SummarizeEval(results)) {  // `full` comes first
//
// A trial reads its context once, for all caches, and compresses each. Only
// tokens that come after that attend to a compressed cache, so only they are
// scored; what stands between the context and the answer is decoded as if it
// had been generated (Session::Force), not read: reading would compress again,
// with the question in sight. See docs/eval.md.

#ifndef PYRAMIDKV_EVAL_H_
#define PYRAMIDKV_EVAL_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// kPasskey: a number, answered digit by digit. kNeedle: a fruit, one token.
// kKl: the tokens that follow a text, forced.
enum class EvalTask { kPasskey, kNeedle, kKl };
inline constexpr std::string_view kEvalTaskNames[] = {"passkey", "needle",
                                                      "kl"};

// Variants of kPasskey. kMulti: six keys with names, one is asked for. kRev:
// the number stands before the words that say what it is. kLong: 12 digits,
// not 5.
enum class EvalVariant { kPlain, kMulti, kRev, kLong };
inline constexpr std::string_view kEvalVariantNames[] = {"plain", "multi",
                                                         "rev", "long"};

// The part that is read and compressed; the rest of the prompt is forced.
// kAgnostic: the context. kAware: context and question. kWhole: all but the
// last token.
enum class EvalPlacement { kAgnostic, kAware, kWhole };
inline constexpr std::string_view kEvalPlacementNames[] = {"agnostic", "aware",
                                                           "whole"};

struct EvalOptions {
  EvalTask task = EvalTask::kPasskey;
  EvalVariant variant = EvalVariant::kPlain;
  EvalPlacement placement = EvalPlacement::kWhole;
  std::vector<std::string> specs = {};  // `full` comes first in any case
  int tokens = 2000;  // of the context; the question comes on top of them
  int trials = 20;
  uint32_t seed = 0;
  // Where the fact stands, 0 (beginning) to 1 (end), taken in turn. Empty:
  // spread evenly, whatever the number of trials.
  std::vector<double> depths = {};
  int score_tokens = 256;  // kKl: tokens that are forced and compared
  std::string text = {};   // kKl: what is read; empty: generated
  int context_size = 0;    // 0: the model's
};

// How far the logits [vocabulary] are from the full cache's, over the scored
// positions. Natural logarithms.
struct EvalDivergence {
  double mean_kl = 0;  // KL(full || cache)
  double max_kl = 0;
  double top1_agreement = 0;  // share with the same likeliest token
  double nll = 0;             // mean, of the text's next token
  double nll_full = 0;
};

// One cache in one trial.
struct EvalTrial {
  std::string spec;  // canonical
  int trial = 0;
  int64_t kv_bytes = 0;  // as compressed, before the answer
  int64_t kv_bytes_full = 0;
  std::optional<double> retained_mass;
  std::vector<std::string> warnings;  // of the cache
  int context_tokens = 0;             // read and compressed
  int scored_tokens = 0;  // decoded out of the compressed cache and judged
  double depth = 0;
  std::string expected, answer;  // but for kKl
  bool right = false;
  std::optional<EvalDivergence> divergence;  // kKl
};

struct EvalCallbacks {
  // Called with each result once it is there; an error ends the evaluation.
  std::function<Status(const EvalTrial&)> on_trial;
  Progress progress;  // thousandths of trials; false: kCancelled
  // Lines of Session::SetTrace.
  std::function<void(std::string_view spec, std::string_view line)> trace;
};

// Runs the trials that are not in `done` and returns all of them, by trial and
// then by spec. Errors: kUsage for options and specs, kDoesNotFit.
Result<std::vector<EvalTrial>> RunEval(Engine* engine,
                                       const EvalOptions& options,
                                       std::span<const EvalTrial> done,
                                       const EvalCallbacks& callbacks);

// A trial as one JSON line (docs/json.md), without a newline.
std::string FormatEvalTrial(const Engine& engine, const EvalOptions& options,
                            const EvalTrial& trial);
// The trials of the same engine and options among the lines; a last line
// without its newline is left out. Errors: kUsage for what is no such line.
Result<std::vector<EvalTrial>> ParseEvalTrials(const Engine& engine,
                                               const EvalOptions& options,
                                               std::string_view lines);

struct EvalInterval {  // of 95 %
  double low = 0, high = 0;
};

// One cache in all of its trials.
struct EvalRow {
  std::string spec;
  int trials = 0;
  double kv_bytes = 0, kv_bytes_full = 0;  // means
  std::optional<double> retained_mass;     // mean; none if any is unknown
  std::vector<std::string> warnings;       // of the first trial with any
  double context_tokens = 0;               // mean
  int64_t scored_tokens = 0;               // in all
  int right = 0;
  EvalInterval right_share;  // Wilson's
  // Share right less that of the full cache on the same trials; Newcombe's
  // interval for paired shares.
  double difference = 0;
  EvalInterval difference_interval;
  std::optional<EvalDivergence> divergence;  // over all scored positions
  std::optional<EvalInterval> kl_interval;   // bootstrap over trials, 2 or more
};

// A row for each spec, in the order of their first trials. REQUIRES: a full
// cache in every trial, as RunEval returns them.
std::vector<EvalRow> SummarizeEval(std::span<const EvalTrial> trials);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_H_
