#include "policy/layer_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/check.h"
#include "policy/pool_scores.h"
#include "policy/scorer.h"
#include "policy/scorers/window.h"
#include "policy/select.h"
#include "policy/value_norms.h"

namespace pyramidkv {
namespace {

constexpr int kMassRows = 16;  // where the scorer itself needs no window

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

void WeighByValues(const CacheSpec& spec, const LayerView& view, int h,
                   int budget, std::vector<float>* score) {
  if (spec.score.vnorm == ValueNorm::kOff) return;
  const int n = view.n[h];
  const std::span<const float> v(view.v[h],
                                 static_cast<size_t>(n) * view.head_dim);
  std::vector<float> norm(n);
  if (spec.score.vnorm == ValueNorm::kV) {
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

}  // namespace

ScorerNeeds NeedsOf(const CacheSpec& spec) {
  ScorerNeeds needs;
  if (spec.keeps_all() && !spec.storage.ranks_top()) return needs;
  needs.window_rows = kMassRows;
  needs.positions =
      spec.score.one_set || spec.score.variant == SumVariant::kObserved;
  if (spec.score.ranking() == nullptr) return needs;
  const ScorerTraits traits = spec.score.ranking()->traits();
  if (traits.window) needs.window_rows = spec.score.window;
  needs.all_rows = traits.all_rows;
  needs.query_statistics = traits.query_statistics;
  needs.repetition = traits.repetition;
  needs.gathers = traits.gathers;
  return needs;
}

LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool) {
  DCHECK(static_cast<int>(budgets.size()) == view.kv_heads);
  const Scorer* const scorer = spec.score.ranking();
  LayerScores out;
  if (scorer != nullptr) out = scorer->Score({spec, view, budgets, pool});
  if (view.want_mass && out.mass.empty()) {
    out.mass = WindowAttention(spec, view, kMassRows, pool).mass;
  }
  if (out.score.empty()) return out;
  const ScorerTraits traits = scorer->traits();
  if (traits.gathers) out.gathered = out.score;
  if (spec.score.variant == SumVariant::kObserved) {
    DivideByObservers(view, &out.score);
  }
  if (spec.score.one_set) ShareScores(view, &out.score);
  pool->ParallelFor(view.kv_heads, [&](int h, int) {
    std::vector<float>& score = out.score[h];
    if (!traits.pools) score = PoolScores(spec, score, budgets[h]);
    WeighByValues(spec, view, h, budgets[h], &score);
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
