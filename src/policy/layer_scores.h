// Scorer: gives each entry of a layer an importance; the entries with the
// highest scores stay (policy/select.h).
//
// A scorer says what it needs to see, and the forward pass brings only that.
// What it gives is then the same for all: pooled over neighbours, spread
// behind peaks, weighted by values.

#ifndef PYRAMIDKV_POLICY_LAYER_SCORES_H_
#define PYRAMIDKV_POLICY_LAYER_SCORES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/attention_form.h"
#include "kernels/rope.h"
#include "kernels/weight_matrix.h"
#include "policy/spec.h"

namespace pyramidkv {

class QueryStatistics;

struct ScorerNeeds {
  int window_rows = 0;            // the last queries
  bool all_rows = false;          // every query, and its log-sum-exp
  bool query_statistics = false;  // mean and covariance before RoPE
  bool repetition = false;        // queries of a pass that repeats the context
  // The scores of past entries are gathered on: the cache keeps them.
  bool running = false;
  bool positions = false;  // of the entries
};
ScorerNeeds NeedsOf(const CacheSpec& spec);

// Bytes that the cache keeps of an entry beside its page and its position: a
// gathered score, the bias of merged entries, where a key is rotated for, and
// on average what is held of the best ones in top_type.
int64_t SideBytesPerEntry(const CacheSpec& spec, int head_dim);

// Query rows that look at the entries [from, to).
struct ObserverRows {
  const float* q = nullptr;    // [rows, kv_heads * group, head_dim]
  const float* lse = nullptr;  // [rows, kv_heads * group]
  int rows = 0;
  int from = 0;  // of the fresh entries
  int to = 0;
};

// What a scorer may see of a layer: n[h] entries of KV head h, f32, in order
// of position: those that the cache held before (past[h], which may differ),
// then `fresh` new ones.
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
  float rope_magnitude = 1;                  // YaRN's factor on cos and sin
  AttentionForm form = AttentionForm::kF32;  // of the products behind lse
  const WeightMatrix* wo = nullptr;  // [embedding, kv_heads * group * head_dim]
};

struct LayerScores {
  // [kv_heads] of [n[h]]: reduced, pooled, value-weighted.
  std::vector<std::vector<float>> score;
  // [kv_heads] of [n[h]]: share of the window's attention; empty if it was not
  // wanted.
  std::vector<std::vector<float>> mass;
  // [kv_heads] of [n[h]]: what goes on in the cache; empty but for
  // needs.running.
  std::vector<std::vector<float>> gathered;
};

// budgets [kv_heads]: decide how many entries recent=half protects.
LayerScores ScoreLayer(const CacheSpec& spec, const LayerView& view,
                       std::span<const int> budgets, ThreadPool* pool);

// Share of `mass` ([n] of one KV head) that the kept entries hold.
double RetainedMass(const float* mass, int n, const std::vector<int>& kept);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_LAYER_SCORES_H_
