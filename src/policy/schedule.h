// How many entries each layer and KV head keeps.

#ifndef PYRAMIDKV_POLICY_SCHEDULE_H_
#define PYRAMIDKV_POLICY_SCHEDULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct BudgetRequest {
  int layers = 0;  // compressible ones only
  int kv_heads = 0;
  int tokens = 0;  // tokens seen; no head can keep more
  // For `memory`: bytes of a page, and entries per head to leave room for.
  int64_t page_bytes = 0;
  // A head's bytes that do not grow with its entries (its first and newest ones
  // in overlays, what its keys are rounded by).
  int64_t head_bytes = 0;
  int reserve_tokens = 0;
  // Bytes that the sequence needs besides (sliding-window layers).
  int64_t other_bytes = 0;
  // Bytes per entry beside its page and position (scores, biases).
  int64_t side_bytes = 0;
  bool keeps_all = false;  // fewer tokens were seen than the spec's `from`
  // In place of the spec's own budget; more than there is means everything.
  std::optional<int64_t> total = std::nullopt;
};

struct Budgets {
  // [layers, kv_heads] entries to keep, each in [1, tokens]; heads of a layer
  // differ by at most one (the exact total need not be divisible).
  std::vector<int> entries;
  int64_t total = 0;  // sum of entries
  std::vector<std::string> warnings;
};

// Resolves a spec for a prompt of r.tokens. With a budget the sum is exactly
//   keep: floor(keep * layers * kv_heads * tokens + 0.5)
//   tokens: tokens * layers * kv_heads (at most everything)
//   memory: as many as fit with their pages and positions
// (a schedule with a formula keeps what that says without a budget; arithmetic
// modes `reference` and `kvpress` keep what their formulas say for that mean.)
// A spec's sliding_window caps r.tokens first. With r.keeps_all everything
// stays. Errors: kUsage where the schedule needs a budget and there is none;
// kDoesNotFit where `tokens` or `memory` is below the least (named).
Result<Budgets> ResolveBudgets(const CacheSpec& spec, const BudgetRequest& r);

// Bytes of [layers, kv_heads] entries as the cache allocates them: whole
// pages, and 4 bytes of position per entry for heads that lost any.
int64_t CacheBytes(const std::vector<int>& entries, const BudgetRequest& r);

// The same where the split over heads is not known before the prompt is read
// (heads=adaptive, global, profile): the most that `total` entries over all
// heads can take.
int64_t MostSplitBytes(int64_t total, const BudgetRequest& r);

// Entries that a head never loses: sinks + recent (or half), + 1 to choose.
int LeastEntries(const CacheSpec& spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCHEDULE_H_
