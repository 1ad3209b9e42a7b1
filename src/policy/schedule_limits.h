// Bounds of a schedule from below (floors) and above (bytes), and the
// published pyramids, which know neither.

#ifndef PYRAMIDKV_POLICY_SCHEDULE_LIMITS_H_
#define PYRAMIDKV_POLICY_SCHEDULE_LIMITS_H_

#include <cstdint>
#include <vector>

#include "policy/schedule.h"

namespace pyramidkv {

// Fewest entries per head [layers]: min, the protected entries + 1, and
// everything in the first `warmup` share of the layers; at most `tokens`.
std::vector<int> LayerFloors(const CacheSpec& spec, int layers, int tokens);

// kDoesNotFit for `memory`, naming `least` bytes.
Status MemoryTooSmall(const CacheSpec& spec, const BudgetRequest& r,
                      int64_t least);

// mode=reference and mode=kvpress. The mean M that their formulas start from:
//   keep    reference: floor(keep * tokens + 0.5); kvpress: keep * tokens
//   tokens  M = tokens
//   memory  the largest whole M whose result fits
Result<Budgets> ResolvePublishedPyramid(const CacheSpec& spec,
                                        const BudgetRequest& r);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCHEDULE_LIMITS_H_
