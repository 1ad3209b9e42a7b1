// Scorer: gives each entry of a layer an importance; the entries with the
// highest scores stay (policy/select.h).

#ifndef PYRAMIDKV_POLICY_LAYER_SCORES_H_
#define PYRAMIDKV_POLICY_LAYER_SCORES_H_

#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "policy/spec.h"

namespace pyramidkv {

// What a scorer may see of a layer: n[h] entries of KV head h (all heads the
// same number after a first prefill, not after an Extend), f32, in order of
// position.
struct LayerView {
  int kv_heads = 0;
  int group = 0;  // query heads per KV head
  int head_dim = 0;
  const int* n = nullptr;           // [kv_heads]
  const float* const* k = nullptr;  // [kv_heads] -> [n[h], head_dim], RoPEd
  const float* const* v = nullptr;  // [kv_heads] -> [n[h], head_dim]
  // The last queries [window_rows, kv_heads * group, head_dim] after RoPE,
  // newest last; row r sits at entry n[h] - window_rows + r.
  const float* window_q = nullptr;
  int window_rows = 0;
  float attention_scale = 0;
};

struct LayerScores {
  // [kv_heads] of [n[h]]: reduced, pooled, value-weighted.
  std::vector<std::vector<float>> score;
  // [kv_heads] of [n[h]]: share of the window's attention.
  std::vector<std::vector<float>> mass;
};

// True if the spec ranks entries at all (false: select=recent, full).
bool NeedsScores(const CacheSpec& spec);

// Window attention (kernels/window_scores.h), reduced over rows and group,
// pooled over the entries that are not protected as recent, times the norm
// of V if the spec says so. Uses min(spec.window, window_rows) rows.
// budgets [kv_heads]: decide how many entries recent=half protects.
LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool);

// Share of `mass` ([n] of one KV head) that the kept entries hold.
double RetainedMass(const float* mass, int n, const std::vector<int>& kept);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_LAYER_SCORES_H_
