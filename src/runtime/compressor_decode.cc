// The compressor while tokens are generated: it evicts when heads have
// grown past their budgets.

#include <algorithm>
#include <limits>

#include "base/aligned_buffer.h"
#include "runtime/compressor.h"
#include "runtime/fit_rounding.h"
#include "runtime/score_entries.h"

namespace pyramidkv {

// Every head grows by one entry per row, so the rows that still fit follow
// from the lengths.
int Compressor::RowsBeforeEviction(int position, const KvCache& cache) const {
  if (!spec_.evicts_decoded() || !resolved_) {
    return std::numeric_limits<int>::max();
  }
  const int kv_heads = plan_->kv_heads();
  int64_t rows = std::numeric_limits<int>::max();
  int64_t all_over = 0, heads = 0;
  for (int rank = 0; rank < plan_->compressed(); ++rank) {
    const int layer = plan_->layer_of(rank);
    const auto budgets = plan_->BudgetsOf(budgets_.decode, layer);
    int64_t layer_over = 0;
    for (int h = 0; h < kv_heads; ++h) {
      const int64_t over = int64_t{cache.length(layer, h)} - budgets[h];
      layer_over += over;
      if (spec_.budget.heads == HeadSplit::kEqual) {
        rows = std::min<int64_t>(rows, spec_.budget.slack - over);
      }
    }
    if (spec_.budget.heads == HeadSplit::kAdaptive) {
      rows = std::min(rows, spec_.budget.slack - layer_over / kv_heads);
    }
    all_over += layer_over;
    heads += kv_heads;
  }
  if (spec_.budget.heads == HeadSplit::kGlobal)
    rows = spec_.budget.slack - all_over / heads;
  const int64_t waits = int64_t{spec_.budget.from} - position;
  return static_cast<int>(std::min<int64_t>(std::max(rows, waits),
                                            std::numeric_limits<int>::max()));
}

Status Compressor::OnDecoded(int position, KvCache* cache, ThreadPool* pool) {
  if (spec_.storage.rounds_keys()) {
    PKV_RETURN_IF_ERROR(FitDecodedRounding(position, cache, pool));
  }
  if (RowsBeforeEviction(position, *cache) > 0) return {};
  tokens_ = position;
  KeepRound round(RoundArgs(budgets_.decode, /*ranks_top=*/false));
  for (int rank = 0; rank < plan_->compressed(); ++rank) {
    PKV_RETURN_IF_ERROR(
        EvictDecoded(plan_->layer_of(rank), &round, cache, pool));
  }
  ++step_;
  return round.End(cache);
}

Status Compressor::EvictDecoded(int layer, KeepRound* round, KvCache* cache,
                                ThreadPool* pool) {
  // As far as the scorer, value norms or merging read them.
  const bool merges = spec_.tier.remainder == Remainder::kCluster;
  const bool keys =
      merges || (spec_.score.ranking() != nullptr && !needs_.gathers);
  const bool values = spec_.reads_values();
  const int kv_heads = plan_->kv_heads(), d = model_->params().head_dim;
  std::vector<int> n(kv_heads);
  std::vector<AlignedBuffer<float>> k(kv_heads), v(kv_heads);
  std::vector<const float*> k_of(kv_heads), v_of(kv_heads);
  pool->ParallelFor(kv_heads, [&](int h, int) {
    n[h] = cache->length(layer, h);
    if (keys) k[h].Resize(size_t(n[h]) * d);
    if (values) v[h].Resize(size_t(n[h]) * d);
    if (keys || values) cache->Decode(layer, h, k[h].data(), v[h].data());
    k_of[h] = k[h].data();
    v_of[h] = v[h].data();
  });
  LayerEntries e;
  e.layer = layer;
  e.fresh_position = tokens_;
  e.past = n.data();
  e.k = k_of.data();
  e.v = v_of.data();
  const QueryRing& ring = *observer_.queries();
  e.window_rows = observer_.AlignedRows(layer, tokens_, *cache);
  e.window_q = ring.rows(layer) +
               size_t(ring.count(layer) - e.window_rows) * ring.width();
  LayerScores scores =
      ScoreEntries({.spec = spec_,
                    .model = *model_,
                    .cache = *cache,
                    .tokens = tokens_,
                    .statistics = observer_.statistics(layer),
                    .budgets = plan_->BudgetsOf(budgets_.decode, layer),
                    .want_mass = merges},
                   e, pool);
  return round->KeepBest(e, &scores, cache, pool);
}

}  // namespace pyramidkv
