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

#include "kernels/kv_codec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

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
enum class HeadSplit { kEqual, kGlobal };
enum class PoolKind { kAvg, kMax };
enum class RowReduce { kMean, kMax };
enum class GroupReduce { kMean, kMax, kSum };
enum class ValueNorm { kOff, kV };

inline constexpr int kRecentHalf = -1;  // half of a head's budget

// A preset's row with the spec's keys applied. Defaults here are `full`.
struct CacheSpec {
  std::string policy = "full";
  bool compresses = false;  // false: keep everything, no schedule runs

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
  double floor = 0.2;  // heads=global: share of the mean that a head is sure of
  int sinks = 0;
  int recent = 0;  // or kRecentHalf
  int window = 32;
  int kernel = 5;
  PoolKind pool = PoolKind::kAvg;
  RowReduce reduce = RowReduce::kMean;
  GroupReduce group = GroupReduce::kMean;
  ValueNorm vnorm = ValueNorm::kOff;

  Codec type_k = Codec::kF16;
  Codec type_v = Codec::kF16;
  // 0: the model's own. Otherwise tokens see, and budgets count, only the last
  // `sliding_window`.
  int sliding_window = 0;

  bool has_budget() const { return keep || tokens || memory; }
  bool operator==(const CacheSpec&) const = default;
};

// Errors: kUsage; names the key or value and lists what is allowed.
Result<CacheSpec> ParseCacheSpec(std::string_view text);

// Canonical form: the policy, then every key that differs from the preset, in
// the order of docs/cache-spec.md. ParseCacheSpec(FormatCacheSpec(s)) == s.
std::string FormatCacheSpec(const CacheSpec& spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_H_
