// The shapes of the schedules that are one formula per layer.

#ifndef PYRAMIDKV_POLICY_SCHEDULE_CURVES_H_
#define PYRAMIDKV_POLICY_SCHEDULE_CURVES_H_

#include <vector>

#include "policy/spec.h"

namespace pyramidkv {

// Entries per head [layers] that the formula gives for n tokens, before
// rounding, floors and caps:
//   uniform  n
//   linear   n (1 - (1 - ratio) l / (layers - 1))
//   power    n (1 - ratio l / layers) ^ exponent
//   table    n times the share at relative depth l / (layers - 1)
//   custom   the list itself. REQUIRES: one number per layer.
// REQUIRES: schedule is not arithmetic (policy/schedule_arithmetic.h).
std::vector<double> ScheduleCurve(const CacheSpec& spec, int layers, int n);

// Fewest entries where the spec has no `min`.
int DefaultMin(ScheduleKind schedule);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCHEDULE_CURVES_H_
