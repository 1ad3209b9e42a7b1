// Puts a layer's entries into a cache as a cache spec says: how many
// (schedule), which (scorer), and what becomes of the rest (remainder).
//
// Called by a prompt pass after each layer's attention, in layer order (many
// compressors may serve one pass: one prefill, several caches), and by a
// decode pass when generated tokens have filled the cache.

#ifndef PYRAMIDKV_RUNTIME_COMPRESSOR_H_
#define PYRAMIDKV_RUNTIME_COMPRESSOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/global_split.h"
#include "policy/head_profile.h"
#include "policy/layer_scores.h"
#include "policy/query_statistics.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/layer_entries.h"
#include "runtime/query_ring.h"

namespace pyramidkv {

// What of a compressor has to be stored beside its spec: budgets follow from
// both.
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
  // windows [layers]: tokens that a layer sees, 0: all. Those that see most are
  // compressed; layers with a narrower window are rings.
  // reserve_tokens: entries to leave room for under `memory`; < 0: unbounded.
  Compressor(const CacheSpec& spec, const Model& model,
             std::vector<int> windows, int reserve_tokens);

  // Reads what the spec names (a profile), and checks that the model suits it.
  // Before anything else. Errors: kUsage.
  Status Open();

  // Forgets the context.
  void Reset();

  CompressorState Export() const;
  // Goes on as the one that `state` was taken from; before Open, which then
  // reads no profile. Not part of it: set_rope_shift.
  // Errors: kModel if it does not fit the spec and the model; those of Begin.
  Status Import(CompressorState state);

  const CacheSpec& spec() const { return spec_; }
  // keep=1 evicts nothing, so nothing is scored but for top_type.
  ScorerNeeds needs() const {
    return spec_.keeps_all() && !spec_.ranks_top() ? ScorerNeeds()
                                                   : NeedsOf(spec_);
  }

  // Quantised keys are rounded by what the prompt's first chunk shows, if it
  // has that many tokens.
  static constexpr int kRoundingQueries = 32;
  bool fits_rounding() const {
    return IsQuantized(spec_.type_k) && spec_.scale != ScaleKind::kChannel;
  }

  // Value norms and merging do, and what is stored twice.
  bool reads_values() const {
    return spec_.vnorm != ValueNorm::kOff ||
           spec_.remainder == Remainder::kCluster || spec_.ranks_top();
  }

  // Resolves the budgets for a context of `tokens`, of which a streamed prompt
  // ends at `prompt_end` (otherwise the same). Errors: see ResolveBudgets;
  // kUsage for `memory` with an unbounded reserve.
  Status Begin(int tokens, int prompt_end);

  // Stores a layer's fresh entries and evicts down to the budget.
  Status OnLayer(const LayerEntries& entries, KvCache* cache, ThreadPool* pool);

  // After the last layer.
  Status End(KvCache* cache);

  // --- while tokens are generated ---

  // How many more rows may be appended before OnDecoded evicts; 0 or less if it
  // would now.
  int RowsBeforeEviction(const KvCache& cache) const;
  // A generated row's queries [heads, head_dim] after RoPE.
  void ObserveQuery(int layer, int position, const float* q);
  bool gathers_attention() const {
    return spec_.evicts_decoded() && spec_.scorer == Scorer::kColumnSums;
  }
  // Evicts if a head is `slack` entries over its budget. position: tokens seen.
  Status OnDecoded(int position, KvCache* cache, ThreadPool* pool);
  QueryRing* queries() { return &ring_; }
  // Positions of keys are rotated for position - shift (positions=renumber).
  void set_rope_shift(int shift) { rope_shift_ = shift; }

  // [layers] mean budget per KV head, or none where nothing was resolved.
  std::optional<int> budget(int layer) const;
  std::optional<double> retained_mass(int layer) const;
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Receives one JSON line per eviction from a KV head.
  void set_trace(std::function<void(std::string_view)> sink) {
    trace_ = std::move(sink);
  }

 private:
  int compressible_layers() const;
  int widest() const;  // window of the layers that are compressed; 0: none
  BudgetRequest Request(int tokens) const;
  void BeginGlobalSplit(int64_t total);
  Status ResolveProfile();
  Status ResolveDecode(int tokens);
  // Empty for a ring.
  std::span<const int> layer_budgets(int layer) const;
  std::vector<int> HeadBudgets(const LayerEntries& e,
                               const LayerScores& scores) const;
  void FitRounding(const LayerEntries& e, KvCache* cache,
                   ThreadPool* pool) const;
  Status StoreAll(const LayerEntries& e, int head, KvCache* cache) const;
  Status SetTop(const LayerEntries& e, int head, std::span<const int> kept,
                std::span<const float> scores, int budget,
                KvCache* cache) const;
  Status KeepAll(const LayerEntries& e, const LayerScores& scores,
                 KvCache* cache, ThreadPool* pool);
  Status KeepBest(const LayerEntries& e, LayerScores* scores, KvCache* cache,
                  ThreadPool* pool);
  Status KeepGlobal(const LayerEntries& e, LayerScores* scores, KvCache* cache,
                    ThreadPool* pool);
  Status KeepInHead(const LayerEntries& e, int head, int budget,
                    const LayerScores& scores, KvCache* cache,
                    double* mass) const;
  Status ApplyTrim(bool last, KvCache* cache);
  Status EvictDecoded(int layer, KvCache* cache, ThreadPool* pool);
  int ObservedRows(int layer, const KvCache& cache) const;
  void ObserveStatistics(const LayerEntries& e, ThreadPool* pool);
  void AddStatistics(int layer, int position, const float* q, int rows,
                     ThreadPool* pool);
  LayerScores Score(const LayerEntries& e, const KvCache& cache,
                    std::span<const int> budgets, bool want_mass,
                    ThreadPool* pool) const;
  int visible_from(const LayerEntries& e, const KvCache& cache, int head) const;
  int64_t RingBytes(const BudgetRequest& request) const;
  void Trace(const KvCache& cache, int layer, int head) const;

  CacheSpec spec_;
  const Model* model_;
  int layers_, kv_heads_, head_dim_;
  std::vector<int> windows_;     // [layers]
  std::vector<int> compressed_;  // [layers] rank among these; -1: a ring
  int reserve_tokens_;
  int tokens_ = 0;
  int prompt_end_ = 0;  // of the last Begin
  int step_ = 0;        // compactions so far
  int rope_shift_ = 0;
  bool decoding_ = false;  // in OnDecoded
  bool resolved_ = false;
  Budgets budgets_;
  Budgets decode_budgets_;  // evict=decode, both
  std::unique_ptr<GlobalSplit> global_;
  std::optional<HeadProfile> profile_;       // heads=profile
  std::vector<QueryStatistics> statistics_;  // [layers]
  QueryRing ring_;
  std::vector<std::optional<double>> retained_;  // [layers]
  std::vector<std::string> warnings_;
  std::function<void(std::string_view)> trace_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_COMPRESSOR_H_
