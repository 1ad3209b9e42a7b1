#include "runtime/score_entries.h"

#include <vector>

namespace pyramidkv {
namespace {

// The arrays that the view of a layer points to, [kv_heads].
struct Sides {
  Sides(const LayerEntries& e, const KvCache& cache, bool want_positions);

  std::vector<int> n;
  std::vector<std::vector<int>> positions;
  std::vector<std::vector<float>> bias;
  std::vector<const int*> position_of;
  std::vector<const float*> bias_of, past_scores;
  bool any_bias = false, any_scores = false;
};

Sides::Sides(const LayerEntries& e, const KvCache& cache, bool want_positions) {
  const int heads = cache.shape().kv_heads;
  positions.resize(heads);
  bias.resize(heads);
  bias_of.resize(heads);
  for (int h = 0; h < heads; ++h) {
    const HeadView view = cache.View(e.layer, h);
    n.push_back(e.past[h] + e.fresh);
    for (int i = 0; want_positions && i < n[h]; ++i) {
      positions[h].push_back(i < e.past[h] ? view.position(i)
                                           : e.fresh_position + i - e.past[h]);
    }
    position_of.push_back(positions[h].data());
    if (view.bias != nullptr) {
      bias[h].assign(view.bias, view.bias + e.past[h]);
      bias[h].resize(n[h], 0.0f);
      bias_of[h] = bias[h].data();
      any_bias = true;
    }
    past_scores.push_back(view.scores);
    any_scores = any_scores || view.scores != nullptr;
  }
}

}  // namespace

LayerScores ScoreEntries(const ScoreEntriesArgs& args, const LayerEntries& e,
                         ThreadPool* pool) {
  const HyperParams& p = args.model.params();
  const bool want_positions = NeedsOf(args.spec).positions;
  const Sides sides(e, args.cache, want_positions);
  LayerView view;
  view.kv_heads = p.kv_heads;
  view.group = p.group();
  view.head_dim = p.head_dim;
  view.attention_scale = p.attention_scale;
  view.fresh = e.fresh;
  view.n = sides.n.data();
  view.k = e.k;
  view.v = e.v;
  if (sides.any_bias) view.bias = sides.bias_of.data();
  if (sides.any_scores) view.past_scores = sides.past_scores.data();
  if (want_positions) view.positions = sides.position_of.data();
  view.next_position = args.tokens;
  view.rope_position = args.tokens - args.cache.rope_shift();
  view.window_q = e.window_q;
  view.window_rows = e.window_rows;
  view.want_mass = args.want_mass;
  view.q = e.q;
  view.lse = e.lse;
  view.repetition = e.repetition;
  view.statistics = args.statistics;
  view.rope = p.rope_of(e.layer).rotation();
  view.form = e.form;
  view.wo = &args.model.layers()[e.layer].output;
  return ScoreLayer(args.spec, view, args.budgets, pool);
}

}  // namespace pyramidkv
