// One measurement of `bench`: what the parent asks for and what the child
// answers.

#ifndef PYRAMIDKV_CLI_BENCH_ROW_H_
#define PYRAMIDKV_CLI_BENCH_ROW_H_

#include <string>

#include "cli/json_output.h"
#include "cli/options.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The name of the hidden command.
inline constexpr char kBenchRowCommand[] = "bench-row";

struct BenchRowRequest {
  ModelFlags model;
  std::string spec = "full";
  int prompt_tokens = 0;
  int n_gen = 0;
  int sequences = 1;  // that read the prompt and are decoded together
};

// Runs the request in a process of its own and returns what it measured:
// {model, spec, compute, threads, timings, kv_bytes, kv_bytes_full,
// peak_rss_bytes, tier}; the tier is the first sequence's. Bytes of caches and
// decode_tokens_per_s are those of all sequences together.
Result<Json> RunBenchRow(const BenchRowRequest& request);

// `words` words of varied text, the same for every call.
std::string PseudoText(int words);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_BENCH_ROW_H_
