// The cache spec: `POLICY[,key=value]...`, one string that says what a cache
// keeps. The same in the command line, HTTP requests, files and tests.

#ifndef PYRAMIDKV_POLICY_SPEC_H_
#define PYRAMIDKV_POLICY_SPEC_H_

#include <string>
#include <string_view>

#include "policy/budget_spec.h"
#include "policy/score_spec.h"
#include "policy/storage_spec.h"
#include "policy/tier_spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

enum class PrefillKind { kExact, kStreaming, kSparse };

// A preset's row with the spec's keys applied. Defaults here are `full`.
struct CacheSpec {
  std::string policy = "full";
  bool compresses = false;  // false: keep everything, no schedule runs
  PrefillKind prefill = PrefillKind::kExact;  // how a prompt is read
  BudgetSpec budget;                          // how many stay, and when
  ScoreSpec score;                            // which ones
  StorageSpec storage;                        // what they are held in
  TierSpec tier;                              // what becomes of the others

  // keep=1 is the full cache, whatever else the spec says.
  bool keeps_all() const { return !compresses || budget.keep == 1.0; }
  bool evicts_prompt() const {
    return compresses && budget.evict != Evict::kDecode;
  }
  bool evicts_decoded() const {
    return !keeps_all() && budget.evict != Evict::kPrefill;
  }
  // Value norms and merging read values, and what is stored twice is read.
  bool reads_values() const {
    return score.vnorm != ValueNorm::kOff ||
           tier.remainder == Remainder::kCluster || storage.ranks_top();
  }
  bool offloads() const {
    return !keeps_all() && tier.remainder == Remainder::kOffload;
  }
  bool operator==(const CacheSpec&) const = default;
};

// Errors: kUsage; names the key or value and lists what is allowed.
Result<CacheSpec> ParseCacheSpec(std::string_view text);

// sign, skew, quest or cluster.
std::string_view IndexName(IndexKind kind);

// Canonical form: the policy, then every key that differs from the preset, in
// the order of docs/cache-spec.md. ParseCacheSpec(FormatCacheSpec(s)) == s.
std::string FormatCacheSpec(const CacheSpec& spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_H_
