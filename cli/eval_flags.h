// The flags of `eval`.

#ifndef PYRAMIDKV_CLI_EVAL_FLAGS_H_
#define PYRAMIDKV_CLI_EVAL_FLAGS_H_

#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "cli/options.h"
#include "pyramidkv/eval.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct EvalFlags {
  ModelFlags model;
  CacheFlags cache;
  EvalOptions options;  // task and the like are set from the words below
  std::string task;
  std::string variant, placement;  // empty: not given
  std::optional<int> score_tokens, at_least;
  std::optional<double> max_kl;
  std::string text_file, out_file, resume_file, trace_file;
  bool json = false;
  bool force = false;  // replaces files of others
};

// REQUIRES: `flags` outlives `app`.
void AddEvalFlags(CLI::App* app, EvalFlags* flags);

// The options asked for, with the text of --file. Errors: kUsage, also for a
// flag that the task does not use.
Result<EvalOptions> ResolveEval(const EvalFlags& flags);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_EVAL_FLAGS_H_
