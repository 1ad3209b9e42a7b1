#include "policy/scorers/key_norm.h"

#include <cmath>
#include <cstddef>

#include "base/check.h"

namespace pyramidkv {

double EuclideanNorm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

void KeyNormScores(std::span<const float> k, int n, int head_dim,
                   std::span<float> score) {
  DCHECK(k.size() == static_cast<size_t>(n) * head_dim);
  DCHECK(score.size() == static_cast<size_t>(n));
  for (int j = 0; j < n; ++j) {
    const auto key = k.subspan(static_cast<size_t>(j) * head_dim, head_dim);
    score[j] = static_cast<float>(-EuclideanNorm(key));
  }
}

namespace {

class KeyNorm final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = false,
            .all_rows = false,
            .query_statistics = false,
            .repetition = false,
            .gathers = false,
            .query_heads = false,
            .sums = false,
            .pools = false,
            .question_aware = false,
            .decodes = true,
            .streams = true,
            .sparse = true};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    LayerScores out;
    out.score = ZeroScores(r.view);
    r.pool->ParallelFor(r.view.kv_heads, [&](int h, int) {
      KeyNormScores(r.view.keys(h), r.view.n[h], r.view.head_dim, out.score[h]);
    });
    return out;
  }
};

}  // namespace

const Scorer* KeyNormScorer() {
  static constexpr KeyNorm scorer;
  return &scorer;
}

}  // namespace pyramidkv
