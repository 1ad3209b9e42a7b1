// Puts a layer's entries into a cache as a cache spec says: how many
// (schedule), which (scorer), and what becomes of the rest (remainder).
//
// Called by a prompt pass after each layer's attention, in layer order (many
// compressors may serve one pass: one prefill, several caches), and by a
// decode pass when generated tokens have filled the cache. Joins three parts:
// the layer plan (policy/layer_plan.h), who watches the queries
// (runtime/query_observer.h) and who stores the choice (runtime/keep_round.h).

#ifndef PYRAMIDKV_RUNTIME_COMPRESSOR_H_
#define PYRAMIDKV_RUNTIME_COMPRESSOR_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/context_budgets.h"
#include "policy/head_profile.h"
#include "policy/layer_plan.h"
#include "policy/layer_scores.h"
#include "policy/query_statistics.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/keep_round.h"
#include "runtime/layer_entries.h"
#include "runtime/query_observer.h"

namespace pyramidkv {

// The part of a compressor that has to be stored beside its spec: budgets
// follow from both.
struct CompressorState {
  int prompt_end = 0;  // what budgets were resolved for; 0: never
  int tokens = 0;
  int step = 0;
  std::vector<std::optional<double>> retained;     // [layers]
  std::vector<std::vector<float>> queries;         // [layers], newest last
  std::vector<QueryStatistics::State> statistics;  // [layers], or empty
  std::optional<HeadProfile> profile;
};

class Compressor {
 public:
  // `plan` and `model` must outlive this.
  // context_size: as Sequence. reserve_tokens: entries to leave room for under
  // `memory`, as far as the context has it; < 0: unbounded.
  Compressor(const CacheSpec& spec, const LayerPlan* plan, const Model* model,
             int context_size, int reserve_tokens);
  Compressor(const Compressor&) = delete;  // a round refers to its members
  Compressor& operator=(const Compressor&) = delete;

  // Reads what the spec names (a profile), and checks that the model suits it.
  // Before anything else. Errors: kUsage.
  Status Open();

  // Forgets the context.
  void Reset();

  CompressorState Export() const;
  // Goes on as the one that `state` was taken from; before Open, which then
  // reads no profile.
  // Errors: kModel if it does not fit the spec and the model; those of Begin.
  Status Import(CompressorState state);

  const CacheSpec& spec() const { return spec_; }
  const ScorerNeeds& needs() const { return needs_; }
  QueryObserver* observer() { return &observer_; }

  // --- a prompt ---

  // Resolves the budgets for a context of `tokens`, of which a streamed prompt
  // ends at `prompt_end` (otherwise the same). Errors: see ResolveContext.
  Status Begin(int tokens, int prompt_end);

  // Stores a layer's fresh entries and evicts down to the budget.
  Status OnLayer(const LayerEntries& entries, KvCache* cache, ThreadPool* pool);

  // After the last layer.
  Status End(KvCache* cache);

  // --- while tokens are generated ---

  // How many more rows may be appended before OnDecoded evicts; 0 or less if it
  // would now. position: tokens seen.
  int RowsBeforeEviction(int position, const KvCache& cache) const;
  // Evicts if a head is `slack` entries over its budget, and fits what keys are
  // rounded by if it is time.
  Status OnDecoded(int position, KvCache* cache, ThreadPool* pool);

  // [layers] mean budget per KV head, or none where nothing was resolved.
  std::optional<int> budget(int layer) const;
  std::optional<double> retained_mass(int layer) const {
    return retained_[layer];
  }
  const std::vector<std::string>& warnings() const { return budgets_.warnings; }

  // Receives one JSON line per eviction from a KV head.
  void set_trace(std::function<void(std::string_view)> sink) {
    trace_ = std::move(sink);
  }

 private:
  KeepRoundArgs RoundArgs(const Budgets& budgets, bool ranks_top) const;
  int RoomAfter(int prompt_end) const;
  bool Fits(const LayerEntries& e) const;
  Status EvictDecoded(int layer, KeepRound* round, KvCache* cache,
                      ThreadPool* pool);

  CacheSpec spec_;
  ScorerNeeds needs_;
  const LayerPlan* plan_;
  const Model* model_;
  int context_size_;
  int reserve_tokens_;
  QueryObserver observer_;
  int tokens_ = 0;
  int prompt_end_ = 0;  // of the last Begin
  int step_ = 0;        // rounds so far
  bool resolved_ = false;
  ContextBudgets budgets_;
  std::optional<KeepRound> round_;      // of the prompt that is being read
  std::optional<HeadProfile> profile_;  // heads=profile
  std::vector<std::optional<double>> retained_;  // [layers], of the prompt
  std::function<void(std::string_view)> trace_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_COMPRESSOR_H_
