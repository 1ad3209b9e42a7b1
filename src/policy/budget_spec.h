// How many entries stay, and when the others leave: the part of a cache spec
// that schedules and splits read.

#ifndef PYRAMIDKV_POLICY_BUDGET_SPEC_H_
#define PYRAMIDKV_POLICY_BUDGET_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
// kProfile: whole heads by a profile of the model (duo-attention).
enum class HeadSplit { kEqual, kAdaptive, kGlobal, kProfile };
enum class Evict { kPrefill, kDecode, kBoth };

struct BudgetSpec {
  // At most one of the three.
  std::optional<double> keep;     // (0, 1] share of all entries
  std::optional<int> tokens;      // mean entries per layer and KV head
  std::optional<int64_t> memory;  // bytes of the whole cache
  int from = 0;                   // tokens seen below which nothing leaves

  ScheduleKind schedule = ScheduleKind::kUniform;
  PyramidMode mode = PyramidMode::kExact;
  double ratio = 0.5;     // linear: share at the last layer; power: alpha
  double exponent = 0.5;  // power: beta of the description
  double beta = 20;       // arithmetic
  std::vector<std::pair<double, double>> table;  // relative depth, share
  std::vector<int> budgets;                      // custom, one per layer
  std::optional<int> min;  // fewest entries in a layer; none: per schedule
  double warmup = 0;       // share of first layers that keep everything
  int full_layers = 0;     // first layers that nothing leaves; no key
  // 0: the model's own. Otherwise tokens see, and budgets count, only the last
  // `sliding_window`.
  int sliding_window = 0;

  HeadSplit heads = HeadSplit::kEqual;
  // heads=adaptive, global: share of the mean that a head is sure of.
  double floor = 0.2;
  std::string profile;  // file, heads=profile

  Evict evict = Evict::kPrefill;
  int slack = 64;  // entries over budget before a decode compaction

  bool given() const { return keep || tokens || memory; }
  bool bounded() const { return tokens || memory; }  // however few were seen
  bool operator==(const BudgetSpec&) const = default;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_BUDGET_SPEC_H_
