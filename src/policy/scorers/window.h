// Scores from the attention of the last queries: what the end of a prompt
// looks at.
//
// Sources: SnapKV (arXiv 2404.14469), section 4, with the last 32 queries;
// TOVA (arXiv 2401.06104) with the newest one. Departures: one set of entries
// for the query heads of a KV head (kernels/window_scores.h).

#ifndef PYRAMIDKV_POLICY_SCORERS_WINDOW_H_
#define PYRAMIDKV_POLICY_SCORERS_WINDOW_H_

#include "policy/scorer.h"

namespace pyramidkv {

const Scorer* WindowScorer();

// The attention of the last `rows` queries, or of as many as there are: into
// `score`, and into `mass` where the view wants it. Without any queries both
// stay empty.
LayerScores WindowAttention(const CacheSpec& spec, const LayerView& view,
                            int rows, ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_WINDOW_H_
