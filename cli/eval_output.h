// Output of `eval`: the document and the table.

#ifndef PYRAMIDKV_CLI_EVAL_OUTPUT_H_
#define PYRAMIDKV_CLI_EVAL_OUTPUT_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/json_output.h"
#include "pyramidkv/engine.h"
#include "pyramidkv/eval.h"

namespace pyramidkv::cli {

std::string_view TaskName(const EvalOptions& options);

// The trials that hold all caches: those of an evaluation that was interrupted,
// by trial. Empty where not even the full cache was measured.
std::vector<EvalTrial> WholeTrials(std::vector<EvalTrial> trials);

// REQUIRES: rows is not empty; the first one is the full cache's.
Json EvalJson(const Engine& engine, const EvalOptions& options,
              std::span<const EvalRow> rows);
std::string EvalTable(const Engine& engine, const EvalOptions& options,
                      std::span<const EvalRow> rows);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_EVAL_OUTPUT_H_
