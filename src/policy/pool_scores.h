// Raw scores over their neighbours: what lets whole passages stay.

#ifndef PYRAMIDKV_POLICY_POOL_SCORES_H_
#define PYRAMIDKV_POLICY_POOL_SCORES_H_

#include <span>
#include <vector>

#include "policy/spec.h"

namespace pyramidkv {

// One head's raw scores [n], pooled (`pool`, `kernel`) and spread (`spread`).
// Entries that are protected as recent with that budget take no part and get
// 0.
std::vector<float> PoolScores(const CacheSpec& spec, std::span<const float> raw,
                              int budget);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_POOL_SCORES_H_
