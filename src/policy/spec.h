// The cache spec: `POLICY[,key=value]...`, one string that says what a cache
// keeps. The same in the command line, HTTP requests, files and tests.

#ifndef PYRAMIDKV_POLICY_SPEC_H_
#define PYRAMIDKV_POLICY_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/cold_tier.h"
#include "cache/head_format.h"
#include "kernels/kv_codec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

class Scorer;

enum class ScheduleKind {
  kUniform,
  kLinear,
  kPower,
  kTable,
  kArithmetic,
  kCustom
};
enum class PyramidMode { kExact, kReference, kKvpress };
enum class SelectKind { kTopk, kMixed, kRecent };
// kProfile: whole heads by a profile of the model (duo-attention).
enum class HeadSplit { kEqual, kAdaptive, kGlobal, kProfile };
// kChunk: mean over chunks of `kernel` entries instead of a sliding pool.
enum class PoolKind { kAvg, kMax, kChunk };
enum class RowReduce { kMean, kMax };
enum class GroupReduce { kMean, kMax, kSum };
enum class ValueNorm { kOff, kV, kWo };
enum class Evict { kPrefill, kDecode, kBoth };
enum class PrefillKind { kExact, kStreaming, kSparse };
enum class Remainder { kDrop, kCluster, kOffload };
enum class MergeRule {
  kMean,       // weighted by the tokens that each entry stands for
  kAttention,  // weighted by score; a cluster without any score: as kMean
  kCosine,     // as kMean of the members near their centroid; drops the others
};
// kToken: 32 channels of a token; kTensor: all of a KV head's K or V; kChannel:
// keys have one for each channel of 32 tokens, values as kToken.
enum class ScaleKind { kToken, kTensor, kChannel };
enum class Positions { kOriginal, kRenumber };
enum class SumVariant { kSum, kObserved };

inline constexpr int kRecentHalf = -1;  // half of a head's budget

// A preset's row with the spec's keys applied. Defaults here are `full`.
struct CacheSpec {
  std::string policy = "full";
  bool compresses = false;         // false: keep everything, no schedule runs
  const Scorer* scorer = nullptr;  // null: entries stay for their place
  bool one_set = false;  // all KV heads of a layer keep the same entries

  // The budget: at most one of the three.
  std::optional<double> keep;     // (0, 1] share of all entries
  std::optional<int> tokens;      // mean entries per layer and KV head
  std::optional<int64_t> memory;  // bytes of the whole cache

  ScheduleKind schedule = ScheduleKind::kUniform;
  PyramidMode mode = PyramidMode::kExact;
  double ratio = 0.5;     // linear: share at the last layer; power: alpha
  double exponent = 0.5;  // power: beta of the description
  double beta = 20;       // arithmetic
  std::vector<std::pair<double, double>> table;  // relative depth, share
  std::vector<int> budgets;                      // custom, one per layer
  std::optional<int> min;  // fewest entries in a layer; none: per schedule
  double warmup = 0;       // share of first layers that keep everything

  SelectKind select = SelectKind::kTopk;
  HeadSplit heads = HeadSplit::kEqual;
  // heads=adaptive, global: share of the mean that a head is sure of.
  double floor = 0.2;
  int sinks = 0;
  int recent = 0;  // or kRecentHalf
  int window = 32;
  int kernel = 5;
  PoolKind pool = PoolKind::kAvg;
  RowReduce reduce = RowReduce::kMean;
  GroupReduce group = GroupReduce::kMean;
  ValueNorm vnorm = ValueNorm::kOff;
  int spread = 0;    // entries behind a peak that stay with it
  double decay = 1;  // kColumnSums: what a sum keeps of itself per token
  int grace = 0;     // kColumnSums: newest entries that cannot leave
  SumVariant variant = SumVariant::kSum;

  Evict evict = Evict::kPrefill;
  int slack = 64;  // entries over budget before a decode compaction
  PrefillKind prefill = PrefillKind::kExact;
  Remainder remainder = Remainder::kDrop;
  double clusters = 0.25;  // below 1: share of a head's budget, else number
  MergeRule merge = MergeRule::kCosine;  // docs/policies.md: the least harm
  // remainder=offload: the cold tier (cache/cold_tier.h).
  IndexKind index = IndexKind::kSign;
  double partial = 0.3;
  double alpha = 6;
  double fetch = 0.2;
  double resident = 1;
  Victim victim = Victim::kCounter;
  int full_layers = 0;  // first layers that nothing leaves; no key
  Positions positions = Positions::kOriginal;
  std::string profile;  // file, heads=profile

  Codec type_k = Codec::kF16;
  Codec type_v = Codec::kF16;
  // Of quantised types: what a scale is shared by, and the codec of the first
  // and the newest entries.
  ScaleKind scale = ScaleKind::kToken;
  Codec recent_type = Codec::kF16;
  // Of what a prompt leaves in a head, the share with the best scores that is
  // held in this codec.
  std::optional<Codec> top_type;
  double top = 0.2;
  // 0: the model's own. Otherwise tokens see, and budgets count, only the last
  // `sliding_window`.
  int sliding_window = 0;

  // How the cache holds the entries of a head.
  HeadFormat head_format(int head_dim) const {
    return {
        {head_dim, type_k, type_v, kPageEntries, scale == ScaleKind::kChannel},
        recent_type,
        top_type,
        scale == ScaleKind::kTensor};
  }

  bool has_budget() const { return keep || tokens || memory; }
  // keep=1 is the full cache, whatever else the spec says.
  bool keeps_all() const { return !compresses || keep == 1.0; }
  bool evicts_prompt() const { return compresses && evict != Evict::kDecode; }
  bool evicts_decoded() const {
    return !keeps_all() && evict != Evict::kPrefill;
  }
  // What ranks the entries; null: nothing does.
  const Scorer* ranking() const {
    return select == SelectKind::kRecent ? nullptr : scorer;
  }
  bool ranks_top() const { return top_type.has_value(); }
  // Quantised keys are rounded by what a prompt shows of them.
  bool rounds_keys() const {
    return IsQuantized(type_k) && scale != ScaleKind::kChannel;
  }
  // Value norms and merging read values, and what is stored twice is read.
  bool reads_values() const {
    return vnorm != ValueNorm::kOff || remainder == Remainder::kCluster ||
           ranks_top();
  }
  bool offloads() const {
    return !keeps_all() && remainder == Remainder::kOffload;
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
