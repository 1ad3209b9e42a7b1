// A layer's entries of a cache and a pass, as scorers see them.

#ifndef PYRAMIDKV_RUNTIME_SCORE_ENTRIES_H_
#define PYRAMIDKV_RUNTIME_SCORE_ENTRIES_H_

#include <span>

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/layer_scores.h"
#include "policy/query_statistics.h"
#include "policy/spec.h"
#include "runtime/layer_entries.h"

namespace pyramidkv {

struct ScoreEntriesArgs {
  const CacheSpec& spec;
  const Model& model;
  const KvCache& cache;
  int tokens = 0;                               // seen
  const QueryStatistics* statistics = nullptr;  // of the layer; or null
  std::span<const int> budgets;                 // [kv_heads]
  bool want_mass = false;
};

LayerScores ScoreEntries(const ScoreEntriesArgs& args, const LayerEntries& e,
                         ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SCORE_ENTRIES_H_
