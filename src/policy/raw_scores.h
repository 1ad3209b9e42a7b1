// What each scorer gives before pooling: one importance per entry.

#ifndef PYRAMIDKV_POLICY_RAW_SCORES_H_
#define PYRAMIDKV_POLICY_RAW_SCORES_H_

#include "base/thread_pool.h"
#include "policy/layer_scores.h"
#include "policy/spec.h"

namespace pyramidkv {

// Fills `score` (empty where nothing is ranked) and `mass` (empty where it is
// not wanted).
LayerScores RawScores(const CacheSpec& spec, const LayerView& view,
                      ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_RAW_SCORES_H_
