#include "policy/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "policy/apportion.h"
#include "policy/schedule_arithmetic.h"
#include "policy/schedule_curves.h"
#include "policy/schedule_limits.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

bool HasFormula(const CacheSpec& spec) {
  return spec.budget.schedule == ScheduleKind::kPower ||
         spec.budget.schedule == ScheduleKind::kLinear ||
         spec.budget.schedule == ScheduleKind::kTable ||
         spec.budget.schedule == ScheduleKind::kCustom;
}

// The schedules whose total can be met exactly: all but the two arithmetic
// modes that repeat other people's rounding.
class ExactSchedule {
 public:
  ExactSchedule(const CacheSpec& spec, const BudgetRequest& r)
      : spec_(spec), r_(r), floors_(LayerFloors(spec, r.layers, r.tokens)) {}

  Result<Budgets> Resolve() const;

 private:
  int64_t heads() const { return int64_t{r_.layers} * r_.kv_heads; }
  int64_t everything() const { return heads() * r_.tokens; }
  int64_t least() const {
    return std::accumulate(floors_.begin(), floors_.end(), int64_t{0}) *
           r_.kv_heads;
  }
  std::vector<int> ByFormula() const;
  std::vector<int> Spread(int64_t total) const;
  Result<int64_t> TotalForKeep(std::vector<std::string>* warnings) const;
  Result<int64_t> TotalForTokens() const;
  Result<int64_t> TotalForMemory() const;
  int64_t Bytes(int64_t total) const;

  const CacheSpec& spec_;
  const BudgetRequest& r_;
  std::vector<int> floors_;  // [layers] per head
};

std::vector<int> ExactSchedule::ByFormula() const {
  const auto curve = ScheduleCurve(spec_, r_.layers, r_.tokens);
  std::vector<int> layers(r_.layers);
  for (int l = 0; l < r_.layers; ++l) {
    // 749.99999999 is 750: the formula is meant in real numbers.
    const double rounded_down = std::floor(curve[l] + 1e-9);
    layers[l] = static_cast<int>(
        std::clamp<double>(rounded_down, floors_[l], r_.tokens));
  }
  return RepeatForHeads(layers, r_.kv_heads);
}

std::vector<int> ExactSchedule::Spread(int64_t total) const {
  Curve curve;
  if (spec_.budget.schedule == ScheduleKind::kArithmetic) {
    const Pyramid p = {r_.layers, r_.tokens, LeastEntries(spec_) - 1,
                       spec_.budget.beta};
    curve = ExactPyramid(p, static_cast<double>(total) / heads());
  } else {
    curve.weight = ScheduleCurve(spec_, r_.layers, r_.tokens);
  }
  return Apportion(curve, floors_, r_.tokens, r_.kv_heads, total);
}

int64_t ExactSchedule::Bytes(int64_t total) const {
  if (spec_.budget.heads != HeadSplit::kEqual) return MostSplitBytes(total, r_);
  return CacheBytes(Spread(total), r_);
}

Result<int64_t> ExactSchedule::TotalForKeep(
    std::vector<std::string>* warnings) const {
  const double exact = *spec_.budget.keep * static_cast<double>(everything());
  const int64_t total =
      std::min(everything(), static_cast<int64_t>(std::floor(exact + 0.5)));
  if (total >= least()) return total;
  const double share = static_cast<double>(least()) / everything();
  warnings->push_back(fmt::format(
      "keep={} is below the least that {} can keep of {} tokens; kept {:.4g} "
      "instead ({} entries per head in the mean)",
      *spec_.budget.keep, spec_.policy, r_.tokens, share,
      (least() + heads() - 1) / heads()));
  return least();
}

Result<int64_t> ExactSchedule::TotalForTokens() const {
  const int64_t total = std::min(everything(), *spec_.budget.tokens * heads());
  if (total >= least()) return total;
  return Status::DoesNotFit(fmt::format(
      "tokens={} is below the least that {} can keep of {} tokens: tokens={}",
      *spec_.budget.tokens, spec_.policy, r_.tokens,
      (least() + heads() - 1) / heads()));
}

Result<int64_t> ExactSchedule::TotalForMemory() const {
  const int64_t memory = *spec_.budget.memory;
  if (Bytes(everything()) <= memory) return everything();
  int64_t fits = least(), too_many = everything();
  if (Bytes(fits) > memory) {
    return MemoryTooSmall(spec_, r_, Bytes(fits));
  }
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (Bytes(middle) <= memory ? fits : too_many) = middle;
  }
  return fits;
}

Result<Budgets> ExactSchedule::Resolve() const {
  Budgets budgets;
  if (r_.total) {
    budgets.entries = Spread(
        std::clamp(*r_.total, std::min(least(), everything()), everything()));
    return budgets;
  }
  if (!spec_.budget.given()) {
    budgets.entries = ByFormula();
    return budgets;
  }
  Result<int64_t> total = spec_.budget.keep ? TotalForKeep(&budgets.warnings)
                          : spec_.budget.tokens ? TotalForTokens()
                                                : TotalForMemory();
  if (!total.ok()) return total.status();
  budgets.entries = Spread(*total);
  return budgets;
}

Status CheckSchedule(const CacheSpec& spec, const BudgetRequest& r) {
  if (!spec.budget.given() && !HasFormula(spec)) {
    return Status::Usage(fmt::format(
        "{} needs a budget; allowed: keep=SHARE, tokens=N or memory=BYTES",
        spec.policy));
  }
  if (spec.budget.schedule == ScheduleKind::kCustom &&
      static_cast<int>(spec.budget.budgets.size()) != r.layers) {
    return Status::Usage(
        fmt::format("budgets={} lists {} layers; this model has {} to compress",
                    FormatBudgets(spec.budget.budgets),
                    spec.budget.budgets.size(), r.layers));
  }
  return Status();
}

}  // namespace

Result<Budgets> ResolveBudgets(const CacheSpec& spec,
                               const BudgetRequest& request) {
  Budgets budgets;
  if (request.layers <= 0 || request.tokens <= 0) return budgets;
  BudgetRequest r = request;
  if (spec.budget.sliding_window > 0) {
    r.tokens = std::min(r.tokens, spec.budget.sliding_window);
  }
  if (spec.compresses) PKV_RETURN_IF_ERROR(CheckSchedule(spec, r));
  if (!spec.compresses || r.keeps_all) {
    budgets.entries.assign(static_cast<size_t>(r.layers) * r.kv_heads,
                           r.tokens);
  } else {
    const bool is_exact = spec.budget.schedule != ScheduleKind::kArithmetic ||
                          spec.budget.mode == PyramidMode::kExact;
    PKV_ASSIGN_OR_RETURN(budgets, is_exact ? ExactSchedule(spec, r).Resolve()
                                           : ResolvePublishedPyramid(spec, r));
  }
  budgets.total = std::accumulate(budgets.entries.begin(),
                                  budgets.entries.end(), int64_t{0});
  return budgets;
}

}  // namespace pyramidkv
