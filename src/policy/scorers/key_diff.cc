#include "policy/scorers/key_diff.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "base/check.h"
#include "policy/scorers/key_norm.h"

namespace pyramidkv {
namespace {

// Below this length a vector has no direction (PyTorch's cosine_similarity).
constexpr double kLeastNorm = 1e-8;

// Sum of the unit vectors; only its direction matters.
std::vector<double> SumOfUnitKeys(std::span<const float> k, int head_dim,
                                  std::span<const double> norm) {
  std::vector<double> sum(head_dim, 0.0);
  for (size_t j = 0; j < norm.size(); ++j) {
    if (!std::isfinite(norm[j])) continue;
    const double factor = 1 / std::max(norm[j], kLeastNorm);
    const float* key = k.data() + j * head_dim;
    for (int d = 0; d < head_dim; ++d) sum[d] += factor * key[d];
  }
  return sum;
}

}  // namespace

void KeyDiffScores(std::span<const float> k, int n, int head_dim,
                   std::span<float> score) {
  DCHECK(k.size() == static_cast<size_t>(n) * head_dim);
  DCHECK(score.size() == static_cast<size_t>(n));
  std::vector<double> norm(n);
  for (int j = 0; j < n; ++j) {
    norm[j] =
        EuclideanNorm(k.subspan(static_cast<size_t>(j) * head_dim, head_dim));
  }
  std::vector<double> anchor = SumOfUnitKeys(k, head_dim, norm);
  double anchor_norm = 0;
  for (const double x : anchor) anchor_norm += x * x;
  anchor_norm = std::max(std::sqrt(anchor_norm), kLeastNorm);
  for (int j = 0; j < n; ++j) {
    if (!std::isfinite(norm[j])) {
      score[j] = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    const float* key = k.data() + static_cast<size_t>(j) * head_dim;
    double dot = 0;
    for (int d = 0; d < head_dim; ++d) dot += anchor[d] * key[d];
    score[j] = static_cast<float>(
        -dot / (anchor_norm * std::max(norm[j], kLeastNorm)));
  }
}

namespace {

class KeyDiff final : public Scorer {
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
      KeyDiffScores(r.view.keys(h), r.view.n[h], r.view.head_dim, out.score[h]);
    });
    return out;
  }
};

}  // namespace

const Scorer* KeyDiffScorer() {
  static constexpr KeyDiff scorer;
  return &scorer;
}

}  // namespace pyramidkv
