#include "policy/scorers/r_kv.h"

#include <vector>

#include "policy/pool_scores.h"
#include "policy/scorers/redundancy.h"
#include "policy/scorers/window.h"

namespace pyramidkv {
namespace {

constexpr float kLambda = 0.1f;

class RKv final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = true,
            .all_rows = false,
            .query_statistics = false,
            .repetition = false,
            .gathers = false,
            .query_heads = true,
            .sums = false,
            .pools = true,
            .question_aware = true,
            .decodes = true,
            .streams = true,
            .sparse = true};
  }

  // Attention is pooled before redundancy is taken off: a neighbour's fame
  // does not excuse a repetition.
  LayerScores Score(const ScoreRequest& r) const override {
    LayerScores out =
        WindowAttention(r.spec, r.view, r.spec.score.window, r.pool);
    if (out.score.empty()) return out;
    r.pool->ParallelFor(r.view.kv_heads, [&](int h, int) {
      std::vector<float>& score = out.score[h];
      score = PoolScores(r.spec, score, r.budgets[h]);
      std::vector<float> redundancy(score.size());
      KeyRedundancy(r.view.keys(h), r.view.n[h], r.view.head_dim, {},
                    redundancy);
      JointScores(score, redundancy, kLambda, score);
    });
    return out;
  }
};

}  // namespace

const Scorer* RKvScorer() {
  static constexpr RKv scorer;
  return &scorer;
}

}  // namespace pyramidkv
