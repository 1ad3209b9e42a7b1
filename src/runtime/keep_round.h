// One round of keeping: a prompt (or one chunk of it), or one eviction while
// tokens are generated. Puts what budgets and scores choose into a cache, layer
// by layer, and what becomes of the rest.
//
// Thread safety: none; forks over KV heads itself.

#ifndef PYRAMIDKV_RUNTIME_KEEP_ROUND_H_
#define PYRAMIDKV_RUNTIME_KEEP_ROUND_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/global_split.h"
#include "policy/layer_plan.h"
#include "policy/layer_scores.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/layer_entries.h"
#include "runtime/merge_entries.h"

namespace pyramidkv {

// All of it must outlive the round.
struct KeepRoundArgs {
  const CacheSpec& spec;
  const LayerPlan& plan;
  const Model& model;
  const Budgets& budgets;
  int tokens = 0;  // seen when the round ends
  int step = 0;    // rounds so far, for the trace
  // Whether entries get their place among the best (top_type), which a prompt
  // alone decides.
  bool ranks_top = false;
  // Receives one JSON line per eviction from a KV head; or empty.
  const std::function<void(std::string_view)>& trace;
};

class KeepRound {
 public:
  explicit KeepRound(const KeepRoundArgs& args);

  // Stores every entry of a layer that can still be seen. scores: for the best
  // ones and for what is gathered, or empty.
  Status KeepAll(const LayerEntries& e, const LayerScores& scores,
                 KvCache* cache, ThreadPool* pool);

  // Stores the best ones within the budgets and evicts the others.
  Status KeepBest(const LayerEntries& e, LayerScores* scores, KvCache* cache,
                  ThreadPool* pool);

  // After the last layer.
  Status End(KvCache* cache);

  // [layers] share of attention that the kept entries hold; none: not known.
  const std::vector<std::optional<double>>& retained() const {
    return retained_;
  }

 private:
  struct Clustering {
    int from;      // the first entry that is merged if it is not kept
    int clusters;  // merged entries
  };

  int VisibleFrom(const LayerEntries& e, const KvCache& cache, int head) const;
  std::vector<int> HeadBudgets(const LayerEntries& e,
                               const LayerScores& scores) const;
  Status StoreAll(const LayerEntries& e, int head, KvCache* cache) const;
  Status SetTop(const LayerEntries& e, int head, std::span<const int> kept,
                std::span<const float> scores, int budget,
                KvCache* cache) const;
  MergedRows Merge(const LayerEntries& e, int head, const Clustering& how,
                   const LayerScores& scores, std::span<const int> kept,
                   const KvCache& cache) const;
  Status KeepInHead(const LayerEntries& e, int head, int budget,
                    const LayerScores& scores, KvCache* cache,
                    double* mass) const;
  Status KeepGlobal(const LayerEntries& e, LayerScores* scores, KvCache* cache,
                    ThreadPool* pool);
  Status ApplyTrim(bool last, KvCache* cache);
  void Trace(const KvCache& cache, int layer, int head) const;

  const CacheSpec& spec_;
  const LayerPlan& plan_;
  const Model& model_;
  const Budgets& budgets_;
  const std::function<void(std::string_view)>& trace_;
  int tokens_;
  bool ranks_top_;
  int kv_heads_;
  int step_;
  std::unique_ptr<GlobalSplit> global_;          // heads=global
  std::vector<std::optional<double>> retained_;  // [layers]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_KEEP_ROUND_H_
