// Which KV heads need the whole context, from a file: those that retrieve
// keep everything, the others a few first and the last entries.
//
// Source: DuoAttention (arXiv 2410.10819), sections 2.2 and 2.4. Departures:
// not a threshold but a total decides how many heads keep everything, and
// what is left over is not wasted; gates are read, not trained.

#ifndef PYRAMIDKV_POLICY_HEAD_PROFILE_H_
#define PYRAMIDKV_POLICY_HEAD_PROFILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv {

struct HeadProfile {
  std::string model;  // what the file says it was made for; may be empty
  int layers = 0;
  int kv_heads = 0;
  // [layers, kv_heads] in [0, 1]: the larger, the more a head retrieves.
  std::vector<double> gate;
};

// Reads {"version": 1, "model": NAME, "heads": [[gate of each KV head] of each
// layer]}; "model" may be missing.
// Errors: kUsage, with the path: cannot be read, not JSON, another version, a
// gate that is no number in [0, 1], another shape than [layers, kv_heads].
Result<HeadProfile> LoadHeadProfile(const std::string& path, int layers,
                                    int kv_heads);

// The same from the file's text; `name` stands for the path in errors.
Result<HeadProfile> ParseHeadProfile(std::string_view text,
                                     const std::string& name, int layers,
                                     int kv_heads);

struct HeadProfileOptions {
  int sinks = 4;
  int recent = 256;
};

// Entries [layers, kv_heads] of a prompt of `tokens` with the sum
// min(total, layers * kv_heads * tokens): as many heads as the total allows
// keep everything, the highest gates first (of equal ones the lower layer,
// then the lower head); all others keep min(tokens, sinks + recent), and the
// first of these also what is left over, as more recent entries.
// Errors: kDoesNotFit if `total` is below sinks + recent for every head, or
// below one entry for every head.
Result<std::vector<int>> HeadProfileBudgets(const HeadProfile& profile,
                                            int tokens, int64_t total,
                                            const HeadProfileOptions& options);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_HEAD_PROFILE_H_
