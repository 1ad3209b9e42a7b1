// The scores of a layer as the choice ranks them: what a scorer gives
// (policy/scorer.h), then what is the same for all: shared between heads,
// pooled over neighbours, spread after peaks, weighted by values.

#ifndef PYRAMIDKV_POLICY_LAYER_SCORES_H_
#define PYRAMIDKV_POLICY_LAYER_SCORES_H_

#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "policy/layer_view.h"
#include "policy/spec.h"

namespace pyramidkv {

// The things that a spec's scorer has to be shown (ScorerTraits).
struct ScorerNeeds {
  int window_rows = 0;            // the last queries
  bool all_rows = false;          // every query, and its log-sum-exp
  bool query_statistics = false;  // mean and covariance before RoPE
  bool repetition = false;        // queries of a pass that repeats the context
  bool gathers = false;           // scores of past entries, from the cache
  bool positions = false;         // of the entries
};
// keep=1 evicts nothing, so nothing is needed but for top_type.
ScorerNeeds NeedsOf(const CacheSpec& spec);

// `score` is empty where nothing is ranked. budgets [kv_heads]: decide how many
// entries recent=half protects.
LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool);

// Share of `mass` ([n] of one KV head) that the kept entries hold.
double RetainedMass(const float* mass, int n, const std::vector<int>& kept);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_LAYER_SCORES_H_
