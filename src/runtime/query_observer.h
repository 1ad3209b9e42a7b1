// The queries that a sequence has seen: the newest ones of each layer, their
// statistics, and how attention that entries received fades. For scorers, which
// look again while tokens are generated.

#ifndef PYRAMIDKV_RUNTIME_QUERY_OBSERVER_H_
#define PYRAMIDKV_RUNTIME_QUERY_OBSERVER_H_

#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/layer_plan.h"
#include "policy/layer_scores.h"
#include "policy/query_statistics.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/layer_entries.h"
#include "runtime/query_ring.h"

namespace pyramidkv {

class QueryObserver {
 public:
  // `plan` and `model` must outlive this. needs: of the spec's scorer.
  QueryObserver(const CacheSpec& spec, const ScorerNeeds& needs,
                const LayerPlan* plan, const Model* model);

  void Reset();

  // A layer of a prompt. rope_shift: of the cache.
  void ObservePrompt(const LayerEntries& e, int rope_shift, ThreadPool* pool);

  // A generated row's queries [heads, head_dim], rotated for `rope_position`.
  void ObserveRow(int layer, int rope_position, const float* q);

  // Whether generated rows add the attention that they pay to KvCache::Scores.
  bool gathers() const { return gathers_; }
  // Lets gathered scores age by one row, before that row is added.
  void Age(std::span<float> scores) const;

  // How many of the newest queries belong to the last entries of every head:
  // row r of these is taken to sit at entry n - rows + r. tokens: seen.
  int AlignedRows(int layer, int tokens, const KvCache& cache) const;

  QueryRing* queries() { return &ring_; }
  const QueryRing& queries() const { return ring_; }
  // A layer's; null where the scorer needs none.
  const QueryStatistics* statistics(int layer) const {
    return statistics_.empty() ? nullptr : &statistics_[layer];
  }

  // For CompressorState. Errors: kModel where they do not fit.
  std::vector<std::vector<float>> ExportQueries() const;
  std::vector<QueryStatistics::State> ExportStatistics() const;
  Status Import(const std::vector<std::vector<float>>& queries,
                std::vector<QueryStatistics::State> statistics);

 private:
  void AddStatistics(int layer, int rope_position, const float* q, int rows,
                     ThreadPool* pool);

  const LayerPlan* plan_;
  const Model* model_;
  ScorerNeeds needs_;
  bool decodes_;  // entries are evicted while tokens are generated
  bool gathers_;
  float decay_;
  int sinks_;
  QueryRing ring_;
  std::vector<QueryStatistics> statistics_;  // [layers], or empty
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_QUERY_OBSERVER_H_
