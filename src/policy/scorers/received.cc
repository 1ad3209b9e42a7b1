#include "policy/scorers/received.h"

#include <algorithm>
#include <cstddef>

namespace pyramidkv {

WindowScoresArgs::Group KernelGroup(GroupReduce reduce) {
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

Received::Received(const LayerView& view, bool max_rows)
    : view_(view), max_rows_(max_rows) {
  for (int h = 0; h < view.kv_heads; ++h) {
    parts_.emplace_back(static_cast<size_t>(view.group) * view.n[h], 0.0f);
  }
}

void Received::AddFresh(const float* lse, int min_distance, ThreadPool* pool) {
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

void Received::AddRepetition(const ObserverRows& rows, ThreadPool* pool) {
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

HeadScores Received::Reduce(GroupReduce group) const {
  HeadScores scores = ZeroScores(view_);
  for (int h = 0; h < view_.kv_heads; ++h) {
    ReduceReceived(parts_[h].data(), view_.n[h], view_.group, view_.n[h],
                   KernelGroup(group), scores[h].data());
  }
  return scores;
}

ColumnAttentionArgs Received::Args(int h, const float* q, const float* lse) {
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

void AddPastScores(const LayerView& view, float factor, bool take_max,
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

}  // namespace pyramidkv
