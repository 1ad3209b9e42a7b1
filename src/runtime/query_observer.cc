#include "runtime/query_observer.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/rope.h"

namespace pyramidkv {

QueryObserver::QueryObserver(const CacheSpec& spec, const ScorerNeeds& needs,
                             const LayerPlan* plan, const Model* model)
    : plan_(plan),
      model_(model),
      needs_(needs),
      decodes_(spec.evicts_decoded()),
      gathers_(decodes_ && needs.gathers),
      decay_(static_cast<float>(spec.score.decay)),
      sinks_(spec.score.sinks) {
  Reset();
}

void QueryObserver::Reset() {
  const HyperParams& p = model_->params();
  if (decodes_) {
    ring_.Reset(p.layers, needs_.window_rows, size_t(p.heads) * p.head_dim);
  }
  if (needs_.query_statistics) {
    statistics_.assign(p.layers, QueryStatistics(p.heads, p.head_dim, sinks_));
  }
}

void QueryObserver::ObservePrompt(const LayerEntries& e, int rope_shift,
                                  ThreadPool* pool) {
  if (decodes_ && e.window_rows > 0) {
    ring_.Add(e.layer, e.window_q, e.window_rows);
  }
  if (statistics_.empty() || e.fresh == 0 || plan_->rank(e.layer) < 0) return;
  AddStatistics(e.layer, e.fresh_position - rope_shift, e.q, e.fresh, pool);
}

void QueryObserver::ObserveRow(int layer, int rope_position, const float* q) {
  if (!decodes_ || plan_->rank(layer) < 0) return;
  ring_.Add(layer, q, 1);
  if (!statistics_.empty()) AddStatistics(layer, rope_position, q, 1, nullptr);
}

// Queries as they were before RoPE.
void QueryObserver::AddStatistics(int layer, int rope_position, const float* q,
                                  int rows, ThreadPool* pool) {
  const HyperParams& p = model_->params();
  const size_t width = size_t(p.heads) * p.head_dim;
  std::vector<float> plain(q, q + rows * width);
  const Rotation rope = p.rope_of(layer).rotation();
  std::vector<float> table(2 * rope.pairs());
  for (int r = 0; r < rows; ++r) {
    RopeTable(rope.inv_freq.data(), rope.pairs(), -(rope_position + r), 1.0f,
              table.data());
    ApplyRope(table.data(), rope.pairs(), rope.neox, p.heads, p.head_dim,
              plain.data() + r * width);
  }
  statistics_[layer].Add(plain, rows, pool);
}

void QueryObserver::Age(std::span<float> scores) const {
  if (decay_ == 1) return;
  for (float& x : scores) x *= decay_;
}

int QueryObserver::AlignedRows(int layer, int tokens,
                               const KvCache& cache) const {
  int rows = ring_.count(layer);
  for (int h = 0; h < plan_->kv_heads(); ++h) {
    const HeadView view = cache.View(layer, h);
    int tail = 0;
    while (tail < std::min(rows, view.length) &&
           view.position(view.length - 1 - tail) == tokens - 1 - tail) {
      ++tail;
    }
    rows = tail;
  }
  return rows;
}

std::vector<std::vector<float>> QueryObserver::ExportQueries() const {
  std::vector<std::vector<float>> queries(plan_->layers());
  for (int l = 0; decodes_ && l < plan_->layers(); ++l) {
    const size_t values = ring_.count(l) * ring_.width();
    queries[l].assign(ring_.rows(l), ring_.rows(l) + values);
  }
  return queries;
}

std::vector<QueryStatistics::State> QueryObserver::ExportStatistics() const {
  std::vector<QueryStatistics::State> states;
  for (const QueryStatistics& s : statistics_) states.push_back(s.Export());
  return states;
}

Status QueryObserver::Import(const std::vector<std::vector<float>>& queries,
                             std::vector<QueryStatistics::State> statistics) {
  if (queries.size() != size_t(plan_->layers()) ||
      statistics.size() != statistics_.size()) {
    return Status::Model(
        "damaged: the state of the compression does not fit the model");
  }
  for (int l = 0; l < plan_->layers(); ++l) {
    const std::vector<float>& q = queries[l];
    const size_t width = ring_.width();
    if (q.size() % width != 0 || q.size() / width > ring_.most_rows()) {
      return Status::Model("damaged: more queries than the policy looks at");
    }
    if (!q.empty()) {
      ring_.Add(l, q.data(), static_cast<int>(q.size() / width));
    }
  }
  for (size_t l = 0; l < statistics_.size(); ++l) {
    if (!statistics_[l].Import(std::move(statistics[l]))) {
      return Status::Model(
          "damaged: statistics of the queries do not fit the model");
    }
  }
  return {};
}

}  // namespace pyramidkv
