#include "policy/scorers/window.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/window_scores.h"
#include "policy/scorers/received.h"

namespace pyramidkv {
namespace {

WindowScoresArgs ArgsOf(const CacheSpec& spec, const LayerView& view,
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
  args.max_rows = spec.score.reduce == RowReduce::kMax;
  args.group_reduce = KernelGroup(spec.score.group);
  return args;
}

std::vector<float*> Pointers(HeadScores* scores) {
  std::vector<float*> pointers;
  for (auto& s : *scores) pointers.push_back(s.data());
  return pointers;
}

class Window final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = true,
            .all_rows = false,
            .query_statistics = false,
            .repetition = false,
            .gathers = false,
            .query_heads = true,
            .sums = false,
            .pools = false,
            .question_aware = true,
            .decodes = true,
            .streams = true,
            .sparse = true};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    return WindowAttention(r.spec, r.view, r.spec.score.window, r.pool);
  }
};

}  // namespace

const Scorer* WindowScorer() {
  static constexpr Window scorer;
  return &scorer;
}

LayerScores WindowAttention(const CacheSpec& spec, const LayerView& view,
                            int rows, ThreadPool* pool) {
  LayerScores out;
  if (view.window_rows == 0) return out;
  out.score = ZeroScores(view);
  if (view.want_mass) out.mass = ZeroScores(view);
  WindowScores(ArgsOf(spec, view, rows), pool, Pointers(&out.score).data(),
               view.want_mass ? Pointers(&out.mass).data() : nullptr);
  return out;
}

}  // namespace pyramidkv
