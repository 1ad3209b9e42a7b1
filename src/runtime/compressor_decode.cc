// What a compressor does while tokens are generated: it watches their
// queries, and evicts when heads have grown past their budgets.

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/aligned_buffer.h"
#include "kernels/rope.h"
#include "runtime/compressor.h"

namespace pyramidkv {

// Every head grows by one entry per row, so the rows that still fit follow
// from the lengths.
int Compressor::RowsBeforeEviction(const KvCache& cache) const {
  if (!spec_.evicts_decoded() || !resolved_) {
    return std::numeric_limits<int>::max();
  }
  int64_t rows = std::numeric_limits<int>::max();
  int64_t all_over = 0, heads = 0;
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] < 0) continue;
    int64_t layer_over = 0;
    for (int h = 0; h < kv_heads_; ++h) {
      const int budget =
          decode_budgets_.entries[size_t(compressed_[l]) * kv_heads_ + h];
      const int over = cache.length(l, h) - budget;
      layer_over += over;
      if (spec_.heads == HeadSplit::kEqual) {
        rows = std::min<int64_t>(rows, spec_.slack - over);
      }
    }
    if (spec_.heads == HeadSplit::kAdaptive) {
      rows = std::min(rows, spec_.slack - layer_over / kv_heads_);
    }
    all_over += layer_over;
    heads += kv_heads_;
  }
  if (spec_.heads == HeadSplit::kGlobal) rows = spec_.slack - all_over / heads;
  return static_cast<int>(rows);
}

void Compressor::ObserveQuery(int layer, int position, const float* q) {
  if (!spec_.evicts_decoded() || compressed_[layer] < 0) return;
  ring_.Add(layer, q, 1);
  if (!statistics_.empty()) AddStatistics(layer, position, q, 1, nullptr);
}

// Queries as they were before RoPE.
void Compressor::AddStatistics(int layer, int position, const float* q,
                               int rows, ThreadPool* pool) {
  const HyperParams& p = model_->params();
  const size_t width = size_t(p.heads) * p.head_dim;
  std::vector<float> plain(q, q + rows * width);
  const Rotation rope = p.rope_of(layer).rotation();
  std::vector<float> table(2 * rope.pairs());
  for (int r = 0; r < rows; ++r) {
    RopeTable(rope.inv_freq.data(), rope.pairs(), -(position + r - rope_shift_),
              1.0f, table.data());
    ApplyRope(table.data(), rope.pairs(), rope.neox, p.heads, p.head_dim,
              plain.data() + r * width);
  }
  statistics_[layer].Add(plain, rows, pool);
}

void Compressor::ObserveStatistics(const LayerEntries& e, ThreadPool* pool) {
  if (statistics_.empty() || e.fresh == 0) return;
  AddStatistics(e.layer, e.fresh_position, e.q, e.fresh, pool);
}

Status Compressor::OnDecoded(int position, KvCache* cache, ThreadPool* pool) {
  if (RowsBeforeEviction(*cache) > 0) return {};
  tokens_ = position;
  decoding_ = true;
  const auto evict = [&]() -> Status {
    BeginGlobalSplit(decode_budgets_.total);
    for (int l = 0; l < layers_; ++l) {
      if (compressed_[l] >= 0) {
        PKV_RETURN_IF_ERROR(EvictDecoded(l, cache, pool));
      }
    }
    return End(cache);
  };
  Status status = evict();
  decoding_ = false;
  return status;
}

Status Compressor::EvictDecoded(int layer, KvCache* cache, ThreadPool* pool) {
  // What the scorer, value norms or merging read.
  const bool merges = spec_.remainder == Remainder::kCluster;
  const bool keys = merges || (spec_.scorer != Scorer::kNone &&
                               spec_.scorer != Scorer::kColumnSums &&
                               spec_.select != SelectKind::kRecent);
  const bool values = reads_values();
  std::vector<int> n(kv_heads_);
  std::vector<AlignedBuffer<float>> k(kv_heads_), v(kv_heads_);
  std::vector<const float*> k_of(kv_heads_), v_of(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    n[h] = cache->length(layer, h);
    if (keys) k[h].Resize(size_t(n[h]) * head_dim_);
    if (values) v[h].Resize(size_t(n[h]) * head_dim_);
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
  e.window_rows = ObservedRows(layer, *cache);
  e.window_q = ring_.rows(layer) +
               size_t(ring_.count(layer) - e.window_rows) * ring_.width();
  const std::optional<double> retained = retained_[layer];
  LayerScores scores = Score(e, *cache, layer_budgets(layer), merges, pool);
  PKV_RETURN_IF_ERROR(global_ != nullptr ? KeepGlobal(e, &scores, cache, pool)
                                         : KeepBest(e, &scores, cache, pool));
  retained_[layer] = retained;  // known of the prompt alone
  return {};
}

// Rows of the ring whose tokens are the last entries of every head: row r is
// taken to sit at entry n - rows + r.
int Compressor::ObservedRows(int layer, const KvCache& cache) const {
  int rows = ring_.count(layer);
  for (int h = 0; h < kv_heads_; ++h) {
    const HeadView view = cache.View(layer, h);
    int tail = 0;
    while (tail < std::min(rows, view.length) &&
           view.position(view.length - 1 - tail) == tokens_ - 1 - tail) {
      ++tail;
    }
    rows = tail;
  }
  return rows;
}

}  // namespace pyramidkv
