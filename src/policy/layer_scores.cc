#include "policy/layer_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/check.h"
#include "cache/head_format.h"
#include "policy/raw_scores.h"
#include "policy/redundancy.h"
#include "policy/select.h"
#include "policy/spread.h"
#include "policy/value_norms.h"

namespace pyramidkv {
namespace {

constexpr int kMassRows = 16;  // where the scorer itself needs no window
constexpr float kRKvLambda = 0.1f;

// All KV heads get the mean of their scores, position by position: heads may
// hold an entry more than others, since an exact total need not be divisible.
void ShareScores(const LayerView& view,
                 std::vector<std::vector<float>>* scores) {
  const auto position = [&](int h, size_t i) {
    return view.positions != nullptr ? view.positions[h][i]
                                     : static_cast<int>(i);
  };
  std::vector<int> all;
  for (int h = 0; h < view.kv_heads; ++h) {
    for (size_t i = 0; i < (*scores)[h].size(); ++i) {
      all.push_back(position(h, i));
    }
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::vector<float> sum(all.size(), 0.0f), count(all.size(), 0.0f);
  const auto for_each = [&](const auto& f) {
    for (int h = 0; h < view.kv_heads; ++h) {
      size_t at = 0;  // both ascend
      for (size_t i = 0; i < (*scores)[h].size(); ++i) {
        while (all[at] != position(h, i)) ++at;
        f(at, &(*scores)[h][i]);
      }
    }
  };
  for_each([&](size_t at, const float* score) {
    sum[at] += *score;
    count[at] += 1;
  });
  for_each([&](size_t at, float* score) { *score = sum[at] / count[at]; });
}

std::span<const float> KeysOf(const LayerView& view, int h) {
  return {view.k[h], static_cast<size_t>(view.n[h]) * view.head_dim};
}

void WeighByValues(const CacheSpec& spec, const LayerView& view, int h,
                   int budget, std::vector<float>* score) {
  if (spec.vnorm == ValueNorm::kOff) return;
  const int n = view.n[h];
  const std::span<const float> v(view.v[h],
                                 static_cast<size_t>(n) * view.head_dim);
  std::vector<float> norm(n);
  if (spec.vnorm == ValueNorm::kV) {
    ValueNorms(v, n, view.head_dim, norm);
    for (int i = 0; i < n; ++i) (*score)[i] *= norm[i];
    return;
  }
  ProjectedValueNorms({*view.wo, h, view.group, n, view.head_dim, v}, norm);
  // Protected entries are chosen without a score: neither part of the best
  // half nor of the rest.
  const Protected p = ProtectedEntries(spec, n, budget);
  const size_t ranked = n - p.sinks - p.recent;
  const auto middle = std::span<float>(*score).subspan(p.sinks, ranked);
  std::vector<float> critical(ranked);
  CriticalScores(middle, std::span<const float>(norm).subspan(p.sinks, ranked),
                 std::max(0, budget - p.sinks - p.recent), critical);
  std::copy(critical.begin(), critical.end(), middle.begin());
}

// By how many queries could see the entry, which sums favour early ones by.
void DivideByObservers(const LayerView& view,
                       std::vector<std::vector<float>>* scores) {
  for (int h = 0; h < view.kv_heads; ++h) {
    for (int i = 0; i < view.n[h]; ++i) {
      (*scores)[h][i] /=
          static_cast<float>(view.next_position - view.positions[h][i]);
    }
  }
}

// One head's raw scores become what SelectKept ranks. Entries that are
// protected as recent take no part in the pool.
void FinishHead(const CacheSpec& spec, const LayerView& view, int h, int budget,
                std::vector<float>* score) {
  const int n = view.n[h];
  const int past = n - ProtectedEntries(spec, n, budget).recent;
  std::vector<float> pooled(n, 0.0f);
  Pool1d(spec.pool, spec.kernel, std::span<const float>(*score).first(past),
         std::span<float>(pooled).first(past));
  if (spec.spread > 0) {
    std::vector<float> spread(n, 0.0f);
    SpreadForward(spec.spread, std::span<const float>(pooled).first(past),
                  std::span<float>(spread).first(past));
    pooled = std::move(spread);
  }
  if (spec.scorer == Scorer::kRedundancy) {
    std::vector<float> redundancy(n);
    KeyRedundancy(KeysOf(view, h), n, view.head_dim, {}, redundancy);
    JointScores(pooled, redundancy, kRKvLambda, pooled);
  }
  *score = std::move(pooled);
  WeighByValues(spec, view, h, budget, score);
}

}  // namespace

ScorerNeeds NeedsOf(const CacheSpec& spec) {
  ScorerNeeds needs;
  if (!spec.compresses) return needs;
  needs.window_rows = kMassRows;
  needs.positions = spec.one_set || spec.variant == SumVariant::kObserved;
  if (spec.select == SelectKind::kRecent) return needs;
  switch (spec.scorer) {
    case Scorer::kNone:
    case Scorer::kKeyNorm:
    case Scorer::kKeyDiff:
      break;
    case Scorer::kWindow:
    case Scorer::kRedundancy:
      needs.window_rows = spec.window;
      break;
    case Scorer::kColumnSums:
    case Scorer::kFarAttention:
      needs.all_rows = true;
      needs.running = true;
      break;
    case Scorer::kExpectedAttention:
      needs.query_statistics = true;
      break;
    case Scorer::kReconstruction:
      needs.repetition = true;
      needs.running = true;
      break;
  }
  return needs;
}

int64_t SideBytesPerEntry(const CacheSpec& spec, int head_dim) {
  if (spec.keeps_all() && !spec.ranks_top()) return 0;
  const int sides = NeedsOf(spec).running +
                    (spec.remainder == Remainder::kCluster) +
                    (spec.positions == Positions::kRenumber);
  int64_t bytes = sides * int64_t{sizeof(float)};
  if (spec.ranks_top()) {
    const double entry = spec.head_format(head_dim).top_entry_bytes();
    bytes += static_cast<int64_t>(std::ceil(spec.top * entry + kTopMarkBytes));
  }
  return bytes;
}

LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool) {
  DCHECK(static_cast<int>(budgets.size()) == view.kv_heads);
  LayerScores out = RawScores(spec, view, pool);
  if (out.score.empty()) return out;
  if (NeedsOf(spec).running) out.gathered = out.score;
  if (spec.variant == SumVariant::kObserved)
    DivideByObservers(view, &out.score);
  if (spec.one_set) ShareScores(view, &out.score);
  pool->ParallelFor(view.kv_heads, [&](int h, int) {
    FinishHead(spec, view, h, budgets[h], &out.score[h]);
  });
  return out;
}

double RetainedMass(const float* mass, int n, const std::vector<int>& kept) {
  double all = 0;
  for (int i = 0; i < n; ++i) all += mass[i];
  if (all <= 0) return 1.0;  // nothing was attended to, so nothing was lost
  // All of it, not all but for the rounding of two sums.
  if (static_cast<int>(kept.size()) == n) return 1.0;
  double held = 0;
  for (int i : kept) held += mass[i];
  return held / all;
}

}  // namespace pyramidkv
