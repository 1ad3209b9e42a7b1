#include "policy/schedule_curves.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace pyramidkv {
namespace {

double TableShare(const std::vector<std::pair<double, double>>& table,
                  double depth) {
  const auto after =
      std::find_if(table.begin(), table.end(),
                   [depth](const auto& point) { return point.first >= depth; });
  if (after == table.begin()) return table.front().second;
  if (after == table.end()) return table.back().second;
  const auto [d0, s0] = *(after - 1);
  const auto [d1, s1] = *after;
  return s0 + (s1 - s0) * (depth - d0) / (d1 - d0);
}

double Share(const CacheSpec& spec, int layer, int layers) {
  const double depth =
      layers > 1 ? static_cast<double>(layer) / (layers - 1) : 0.0;
  switch (spec.budget.schedule) {
    case ScheduleKind::kLinear:
      return 1 - (1 - spec.budget.ratio) * depth;
    case ScheduleKind::kPower:
      return std::pow(1 - spec.budget.ratio * layer / layers,
                      spec.budget.exponent);
    case ScheduleKind::kTable:
      return TableShare(spec.budget.table, depth);
    default:
      return 1;
  }
}

}  // namespace

std::vector<double> ScheduleCurve(const CacheSpec& spec, int layers, int n) {
  DCHECK(spec.budget.schedule != ScheduleKind::kArithmetic);
  if (spec.budget.schedule == ScheduleKind::kCustom) {
    return {spec.budget.budgets.begin(), spec.budget.budgets.end()};
  }
  std::vector<double> curve(layers);
  for (int l = 0; l < layers; ++l) curve[l] = n * Share(spec, l, layers);
  return curve;
}

int DefaultMin(ScheduleKind schedule) {
  switch (schedule) {
    case ScheduleKind::kLinear:
    case ScheduleKind::kTable:
      return 64;
    case ScheduleKind::kPower:
      return 16;
    default:
      return 0;  // the protected entries + 1 bind anyway
  }
}

}  // namespace pyramidkv
