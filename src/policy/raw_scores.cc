#include "policy/raw_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/column_attention.h"
#include "kernels/window_scores.h"
#include "policy/expected_attention.h"
#include "policy/key_diff.h"
#include "policy/key_norm.h"

namespace pyramidkv {
namespace {

constexpr int kFarDistance = 64;  // rows nearer than this do not count
// Of kvpress' comparisons: a floor that lets the value norm speak for entries
// that nothing is expected to attend to.
constexpr float kExpectedEpsilon = 0.01f;

using HeadScores = std::vector<std::vector<float>>;  // [kv_heads] of [n[h]]

HeadScores Zeros(const LayerView& view) {
  HeadScores scores;
  for (int h = 0; h < view.kv_heads; ++h) scores.emplace_back(view.n[h]);
  return scores;
}

std::vector<float*> Pointers(HeadScores* scores) {
  std::vector<float*> pointers;
  for (auto& s : *scores) pointers.push_back(s.data());
  return pointers;
}

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

// The attention of the last `rows` queries, or of as many as there are.
WindowScoresArgs WindowArgs(const CacheSpec& spec, const LayerView& view,
                            int rows) {
  WindowScoresArgs args;
  args.kv_heads = view.kv_heads;
  args.group = view.group;
  args.head_dim = view.head_dim;
  args.n = view.n;
  args.rows = std::min(rows, view.window_rows);
  for (int h = 0; h < view.kv_heads; ++h) {
    args.rows = std::min(args.rows, view.n[h]);
  }
  args.scale = view.attention_scale;
  const size_t row_size =
      static_cast<size_t>(view.kv_heads) * view.group * view.head_dim;
  args.q = view.window_q + (view.window_rows - args.rows) * row_size;
  args.k = view.k;
  args.bias = view.bias;
  args.max_rows = spec.reduce == RowReduce::kMax;
  args.group_reduce = GroupOf(spec.group);
  return args;
}

// What entries receive from rows, one task per KV head.
class Received {
 public:
  Received(const LayerView& view, bool max_rows)
      : view_(view), max_rows_(max_rows) {
    for (int h = 0; h < view.kv_heads; ++h) {
      parts_.emplace_back(static_cast<size_t>(view.group) * view.n[h], 0.0f);
    }
  }

  // From all fresh rows. lse may differ from the view's (decay).
  void AddFresh(const float* lse, int min_distance, ThreadPool* pool) {
    std::vector<ColumnAttentionArgs> heads;
    for (int h = 0; h < view_.kv_heads; ++h) {
      ColumnAttentionArgs args = Args(h, view_.q, lse);
      args.rows = view_.fresh;
      args.first_end = view_.n[h] - view_.fresh + 1;
      args.min_distance = min_distance;
      heads.push_back(args);
    }
    ColumnAttention(heads, pool);
  }

  // From rows behind all entries, on the ones that they repeat.
  void AddRepetition(const ObserverRows& rows, ThreadPool* pool) {
    std::vector<ColumnAttentionArgs> heads;
    for (int h = 0; h < view_.kv_heads; ++h) {
      ColumnAttentionArgs args = Args(h, rows.q, rows.lse);
      const int past = view_.n[h] - view_.fresh;
      args.rows = rows.rows;
      args.first_end = view_.n[h] + 1;
      args.from = past + rows.from;
      args.to = past + rows.to;
      args.received += args.from;
      heads.push_back(args);
    }
    ColumnAttention(heads, pool);
  }

  HeadScores Reduce(GroupReduce group) const {
    HeadScores scores = Zeros(view_);
    for (int h = 0; h < view_.kv_heads; ++h) {
      ReduceReceived(parts_[h].data(), view_.n[h], view_.group, view_.n[h],
                     GroupOf(group), scores[h].data());
    }
    return scores;
  }

 private:
  ColumnAttentionArgs Args(int h, const float* q, const float* lse) {
    const size_t heads = static_cast<size_t>(view_.kv_heads) * view_.group;
    ColumnAttentionArgs args;
    args.group = view_.group;
    args.head_dim = view_.head_dim;
    args.scale = view_.attention_scale;
    args.q = q + static_cast<size_t>(h) * view_.group * view_.head_dim;
    args.q_stride = heads * view_.head_dim;
    args.lse = lse + h * view_.group;
    args.lse_stride = heads;
    args.k = view_.k[h];
    args.bias = view_.bias != nullptr ? view_.bias[h] : nullptr;
    args.to = view_.n[h];
    args.max_rows = max_rows_;
    args.form = view_.form;
    args.received = parts_[h].data();
    args.received_stride = view_.n[h];
    return args;
  }

  const LayerView& view_;
  bool max_rows_;
  std::vector<std::vector<float>> parts_;  // [kv_heads] of [group, n[h]]
};

// Scores that earlier passes gathered, times `factor`; by sum or maximum.
void AddPast(const LayerView& view, float factor, bool take_max,
             HeadScores* scores) {
  if (view.past_scores == nullptr) return;
  for (int h = 0; h < view.kv_heads; ++h) {
    if (view.past_scores[h] == nullptr) continue;
    for (int i = 0; i < view.n[h] - view.fresh; ++i) {
      const float past = view.past_scores[h][i] * factor;
      float& score = (*scores)[h][i];
      score = take_max ? std::max(score, past) : score + past;
    }
  }
}

// H2O (arXiv 2306.14048): column sums of the attention of all queries so far.
// A row that is t tokens old counts decay^t: its log-sum-exp grows by
// t * -log(decay).
HeadScores ColumnSums(const CacheSpec& spec, const LayerView& view,
                      ThreadPool* pool) {
  HeadScores scores = Zeros(view);
  if (view.fresh > 0) {
    const int heads = view.kv_heads * view.group;
    std::vector<float> aged;
    const float* lse = view.lse;
    if (spec.decay < 1) {
      aged.assign(lse, lse + static_cast<size_t>(view.fresh) * heads);
      for (int r = 0; r < view.fresh; ++r) {
        const double age = view.fresh - 1 - r;
        const float shift = static_cast<float>(-age * std::log(spec.decay));
        for (int g = 0; g < heads; ++g) {
          aged[static_cast<size_t>(r) * heads + g] += shift;
        }
      }
      lse = aged.data();
    }
    Received received(view, /*max_rows=*/false);
    received.AddFresh(lse, /*min_distance=*/0, pool);
    scores = received.Reduce(spec.group);
  }
  const double factor = std::pow(spec.decay, view.fresh);
  AddPast(view, static_cast<float>(factor), /*take_max=*/false, &scores);
  return scores;
}

// Most attention that an entry received from rows far behind it: what a
// context needs of itself, whatever is asked later.
HeadScores FarAttention(const CacheSpec& spec, const LayerView& view,
                        ThreadPool* pool) {
  Received received(view, /*max_rows=*/true);
  received.AddFresh(view.lse, kFarDistance, pool);
  HeadScores scores = received.Reduce(spec.group);
  AddPast(view, 1, /*take_max=*/true, &scores);
  return scores;
}

// KVzip (arXiv 2505.23416), section 3: most attention that an entry received
// while the model repeated the context.
HeadScores Reconstruction(const CacheSpec& spec, const LayerView& view,
                          ThreadPool* pool) {
  Received received(view, /*max_rows=*/true);
  for (const ObserverRows& rows : view.repetition) {
    received.AddRepetition(rows, pool);
  }
  HeadScores scores = received.Reduce(spec.group);
  AddPast(view, 1, /*take_max=*/true, &scores);
  return scores;
}

HeadScores KeyScores(const CacheSpec& spec, const LayerView& view,
                     ThreadPool* pool) {
  HeadScores scores = Zeros(view);
  pool->ParallelFor(view.kv_heads, [&](int h, int) {
    const std::span<const float> k(
        view.k[h], static_cast<size_t>(view.n[h]) * view.head_dim);
    if (spec.scorer == Scorer::kKeyNorm) {
      KeyNormScores(k, view.n[h], view.head_dim, scores[h]);
    } else {
      KeyDiffScores(k, view.n[h], view.head_dim, scores[h]);
    }
  });
  return scores;
}

HeadScores Expected(const CacheSpec& spec, const LayerView& view,
                    ThreadPool* pool) {
  HeadScores scores = Zeros(view);
  const MeanRotation mean(view.rope, view.rope_position, kFuturePositions);
  pool->ParallelFor(view.kv_heads, [&](int h, int) {
    ExpectedAttentionArgs args;
    args.statistics = view.statistics;
    args.rotation = &mean;
    args.kv_head = h;
    args.group = view.group;
    args.n = view.n[h];
    args.sinks = std::min(spec.sinks, view.n[h]);
    args.k = {view.k[h], static_cast<size_t>(view.n[h]) * view.head_dim};
    args.attention_scale = view.attention_scale;
    args.epsilon = kExpectedEpsilon;
    ExpectedAttentionScores(args, scores[h]);
  });
  return scores;
}

}  // namespace

LayerScores RawScores(const CacheSpec& spec, const LayerView& view,
                      ThreadPool* pool) {
  LayerScores out;
  const ScorerNeeds needs = NeedsOf(spec);
  const bool by_window =
      spec.select != SelectKind::kRecent &&
      (spec.scorer == Scorer::kWindow || spec.scorer == Scorer::kRedundancy);
  if (view.window_rows > 0 && (by_window || view.want_mass)) {
    HeadScores window = Zeros(view);
    if (view.want_mass) out.mass = Zeros(view);
    WindowScores(WindowArgs(spec, view, needs.window_rows), pool,
                 Pointers(&window).data(),
                 view.want_mass ? Pointers(&out.mass).data() : nullptr);
    if (by_window) out.score = std::move(window);
  }
  if (spec.select == SelectKind::kRecent) return out;
  switch (spec.scorer) {
    case Scorer::kNone:
    case Scorer::kWindow:
    case Scorer::kRedundancy:
      break;
    case Scorer::kColumnSums:
      out.score = ColumnSums(spec, view, pool);
      break;
    case Scorer::kFarAttention:
      out.score = FarAttention(spec, view, pool);
      break;
    case Scorer::kReconstruction:
      out.score = Reconstruction(spec, view, pool);
      break;
    case Scorer::kKeyNorm:
    case Scorer::kKeyDiff:
      out.score = KeyScores(spec, view, pool);
      break;
    case Scorer::kExpectedAttention:
      out.score = Expected(spec, view, pool);
      break;
  }
  return out;
}

}  // namespace pyramidkv
