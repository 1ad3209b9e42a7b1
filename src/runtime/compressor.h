// Puts a layer's entries into a cache as a cache spec says: how many
// (schedule), which (scorer), and what of the rest (dropped).
//
// Called by a prompt pass after each layer's attention, in layer order; many
// compressors may serve one pass (one prefill, several caches).

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
#include "policy/layer_scores.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// One layer after its attention: the entries that the cache already holds
// (decoded), then the fresh rows of this pass.
struct LayerEntries {
  int layer = 0;
  int fresh = 0;                    // rows of this pass
  int fresh_position = 0;           // of the first of them
  const int* past = nullptr;        // [kv_heads] entries from the cache
  const float* const* k = nullptr;  // [kv_heads] -> [past + fresh, head_dim]
  const float* const* v = nullptr;
  const float* window_q = nullptr;  // last window_rows queries, see LayerView
  int window_rows = 0;
};

class Compressor {
 public:
  // windows [layers]: tokens that a layer sees, 0: all. Layers with a window
  // are rings and not compressed, unless every layer has one.
  // reserve_tokens: entries to leave room for under `memory`; < 0: unbounded.
  Compressor(const CacheSpec& spec, const HyperParams& params,
             std::vector<int> windows, int reserve_tokens);

  const CacheSpec& spec() const { return spec_; }

  // How many of a prompt's last queries the scorer wants to see.
  int window_rows() const;

  // Resolves the budgets for a context of `tokens`. Errors: see
  // ResolveBudgets; kUsage for `memory` with an unbounded reserve.
  Status Begin(int tokens);

  // Stores a layer's fresh entries and evicts down to the budget.
  Status OnLayer(const LayerEntries& entries, KvCache* cache, ThreadPool* pool);

  // After the last layer.
  Status End(KvCache* cache);

  // [layers] mean budget per KV head, or none where nothing was resolved.
  std::optional<int> budget(int layer) const;
  std::optional<double> retained_mass(int layer) const;
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Receives one JSON line per eviction from a KV head.
  void set_trace(std::function<void(std::string_view)> sink) {
    trace_ = std::move(sink);
  }
  void set_step(int step) { step_ = step; }

 private:
  Status StoreAll(const LayerEntries& e, int head, KvCache* cache) const;
  Status OnEqualLayer(const LayerEntries& e, KvCache* cache, ThreadPool* pool);
  Status OnGlobalLayer(const LayerEntries& e, KvCache* cache, ThreadPool* pool);
  Status ApplyTrim(bool last, KvCache* cache);
  LayerScores Score(const LayerEntries& e, std::span<const int> budgets,
                    ThreadPool* pool) const;
  int visible_from(const LayerEntries& e, const KvCache& cache, int head) const;
  int64_t RingBytes(int64_t page_bytes) const;
  void Trace(const KvCache& cache, int layer, int head) const;
  // Empty for a ring.
  std::span<const int> layer_budgets(int layer) const;
  int compressible_layers() const;

  CacheSpec spec_;
  int layers_, kv_heads_, group_, head_dim_;
  float attention_scale_;
  std::vector<int> windows_;     // [layers]
  std::vector<int> compressed_;  // [layers] rank among these; -1: a ring
  int reserve_tokens_;
  int tokens_ = 0;
  int step_ = 0;
  bool resolved_ = false;
  Budgets budgets_;
  std::unique_ptr<GlobalSplit> global_;
  std::vector<std::optional<double>> retained_;  // [layers]
  std::vector<std::string> warnings_;
  std::function<void(std::string_view)> trace_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_COMPRESSOR_H_
