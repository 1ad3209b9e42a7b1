// A layer as scorers see it, and what they give: plain pointers, [kv_heads]
// outermost. KV heads may hold different numbers of entries.

#ifndef PYRAMIDKV_POLICY_LAYER_VIEW_H_
#define PYRAMIDKV_POLICY_LAYER_VIEW_H_

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/attention_form.h"
#include "kernels/rope.h"
#include "kernels/weight_matrix.h"

namespace pyramidkv {

class QueryStatistics;

// Query rows that look at the entries [from, to).
struct ObserverRows {
  const float* q = nullptr;    // [rows, kv_heads * group, head_dim]
  const float* lse = nullptr;  // [rows, kv_heads * group]
  int rows = 0;
  int from = 0;  // of the fresh entries
  int to = 0;
};

// n[h] entries of KV head h, f32, in order of position: those that the cache
// held before (their number may differ between heads), then `fresh` new ones.
struct LayerView {
  int kv_heads = 0;
  int group = 0;  // query heads per KV head
  int head_dim = 0;
  const int* n = nullptr;           // [kv_heads]
  const float* const* k = nullptr;  // [kv_heads] -> [n[h], head_dim], RoPEd
  const float* const* v = nullptr;  // [kv_heads] -> [n[h], head_dim]
  // [kv_heads] -> [n[h]]; null, also for a head: none.
  const float* const* bias = nullptr;
  int fresh = 0;
  // [kv_heads] -> [n[h] - fresh] gathered scores of past entries, or null.
  const float* const* past_scores = nullptr;
  // [kv_heads] -> [n[h]], needs.positions; null: entry i is at position i.
  const int* const* positions = nullptr;
  int next_position = 0;  // tokens seen
  int rope_position = 0;  // what the next query is rotated for

  // The last queries [window_rows, kv_heads * group, head_dim] after RoPE,
  // newest last; row r sits at entry n[h] - window_rows + r.
  const float* window_q = nullptr;
  int window_rows = 0;
  float attention_scale = 0;
  bool want_mass = true;

  // needs.all_rows: every fresh query [fresh, kv_heads * group, head_dim], and
  // the log-sum-exp of its logits [fresh, kv_heads * group].
  const float* q = nullptr;
  const float* lse = nullptr;
  std::span<const ObserverRows> repetition;
  const QueryStatistics* statistics = nullptr;
  Rotation rope;
  AttentionForm form = AttentionForm::kF32;  // of the products that gave lse
  const WeightMatrix* wo = nullptr;  // [embedding, kv_heads * group * head_dim]

  std::span<const float> keys(int h) const {
    return {k[h], static_cast<size_t>(n[h]) * head_dim};
  }
};

using HeadScores = std::vector<std::vector<float>>;  // [kv_heads] of [n[h]]

// A zero for each entry.
inline HeadScores ZeroScores(const LayerView& view) {
  HeadScores scores;
  for (int h = 0; h < view.kv_heads; ++h) scores.emplace_back(view.n[h]);
  return scores;
}

struct LayerScores {
  // Importance; empty where there was nothing to go by.
  HeadScores score;
  // Share of the window's attention; empty if it was not wanted.
  HeadScores mass;
  // Scores that go on in the cache; empty but for needs.gathers.
  HeadScores gathered;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_LAYER_VIEW_H_
