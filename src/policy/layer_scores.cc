#include "policy/layer_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/check.h"
#include "kernels/window_scores.h"
#include "policy/select.h"

namespace pyramidkv {
namespace {

WindowScoresArgs::Group GroupOf(GroupReduce reduce) {
  switch (reduce) {
    case GroupReduce::kMax:
      return WindowScoresArgs::Group::kMax;
    case GroupReduce::kSum:
      return WindowScoresArgs::Group::kSum;
    case GroupReduce::kMean:
      break;
  }
  return WindowScoresArgs::Group::kMean;
}

WindowScoresArgs ArgsOf(const CacheSpec& spec, const LayerView& view) {
  WindowScoresArgs args;
  args.kv_heads = view.kv_heads;
  args.group = view.group;
  args.head_dim = view.head_dim;
  args.n = view.n;
  args.rows = std::min(spec.window, view.window_rows);
  for (int h = 0; h < view.kv_heads; ++h) {
    args.rows = std::min(args.rows, view.n[h]);
  }
  args.scale = view.attention_scale;
  const size_t row_size =
      static_cast<size_t>(view.kv_heads) * view.group * view.head_dim;
  args.q = view.window_q + (view.window_rows - args.rows) * row_size;
  args.k = view.k;
  args.max_rows = spec.reduce == RowReduce::kMax;
  args.group_reduce = GroupOf(spec.group);
  return args;
}

float Norm(const float* v, int head_dim) {
  double sum = 0;
  for (int d = 0; d < head_dim; ++d) sum += static_cast<double>(v[d]) * v[d];
  return static_cast<float>(std::sqrt(sum));
}

// One head's window attention becomes what SelectKept ranks.
void FinishHead(const CacheSpec& spec, int budget, const float* v, int head_dim,
                std::vector<float>* score) {
  const int n = static_cast<int>(score->size());
  const int past = n - ProtectedEntries(spec, n, budget).recent;
  std::vector<float> pooled(n, 0.0f);
  Pool1d(spec.pool, spec.kernel, std::span<const float>(*score).first(past),
         std::span<float>(pooled).first(past));
  if (spec.vnorm == ValueNorm::kV) {
    for (int i = 0; i < past; ++i) {
      pooled[i] *= Norm(v + static_cast<size_t>(i) * head_dim, head_dim);
    }
  }
  *score = std::move(pooled);
}

}  // namespace

bool NeedsScores(const CacheSpec& spec) {
  return spec.compresses && spec.select != SelectKind::kRecent;
}

LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool) {
  DCHECK(static_cast<int>(budgets.size()) == view.kv_heads);
  LayerScores out;
  std::vector<float*> score, mass;
  out.score.reserve(view.kv_heads);  // the pointers below must stay valid
  out.mass.reserve(view.kv_heads);
  for (int h = 0; h < view.kv_heads; ++h) {
    score.push_back(out.score.emplace_back(view.n[h]).data());
    mass.push_back(out.mass.emplace_back(view.n[h]).data());
  }
  WindowScores(ArgsOf(spec, view), pool, score.data(), mass.data());
  pool->ParallelFor(view.kv_heads, [&](int h, int) {
    FinishHead(spec, budgets[h], view.v[h], view.head_dim, &out.score[h]);
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
