#include "policy/scorers/expected_attention.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/check.h"
#include "kernels/elementwise.h"
#include "policy/gemm.h"

namespace pyramidkv {
namespace {

// Keys per matrix product, the last ones padded: a key's score does not
// depend on how many others there are.
constexpr int kTile = 128;

// x [head_dim] times the mean rotation, in place.
void Rotate(const MeanRotation& rotation, double* x) {
  const int pairs = static_cast<int>(rotation.cosine.size());
  const int step = rotation.neox ? 1 : 2;
  const int partner = rotation.neox ? pairs : 1;
  for (int i = 0; i < pairs; ++i) {
    double* a = x + i * step;
    double* b = a + partner;
    const double a0 = *a, b0 = *b;
    *a = a0 * rotation.cosine[i] - b0 * rotation.sine[i];
    *b = a0 * rotation.sine[i] + b0 * rotation.cosine[i];
  }
}

// Query head's question to come: the log of its expected exp(scale * q.k) is
// scale * k.(mean + matrix * k).
struct FutureQuery {
  std::vector<float> mean;    // [head_dim]
  std::vector<float> matrix;  // [head_dim, head_dim], scale / 2 * covariance
};

FutureQuery FutureQueryOf(const ExpectedAttentionArgs& args, int head) {
  QueryStatistics::Moments moments = args.statistics->Of(head);
  const int head_dim = args.statistics->head_dim();
  Rotate(*args.rotation, moments.mean.data());
  FutureQuery future;
  future.mean.assign(moments.mean.begin(), moments.mean.end());
  // R C R': rows, then columns as rows of the transpose.
  std::vector<double>& c = moments.covariance;
  for (int pass = 0; pass < 2; ++pass) {
    for (int i = 0; i < head_dim; ++i) {
      Rotate(*args.rotation, c.data() + static_cast<size_t>(i) * head_dim);
    }
    for (int i = 0; i < head_dim; ++i) {
      for (int j = 0; j < i; ++j) {
        std::swap(c[i * head_dim + j], c[j * head_dim + i]);
      }
    }
  }
  future.matrix.resize(c.size());
  for (size_t i = 0; i < c.size(); ++i) {
    future.matrix[i] = static_cast<float>(args.attention_scale / 2.0 * c[i]);
  }
  return future;
}

// logit[j] of the keys k [n, head_dim].
void Logits(const FutureQuery& future, float scale, std::span<const float> k,
            std::span<float> logit) {
  const int head_dim = static_cast<int>(future.mean.size());
  const int n = static_cast<int>(logit.size());
  std::vector<float> asked(static_cast<size_t>(kTile) * head_dim);
  std::vector<float> padded;
  for (int first = 0; first < n; first += kTile) {
    const int count = std::min(kTile, n - first);
    const float* keys = k.data() + static_cast<size_t>(first) * head_dim;
    if (count < kTile) {
      padded.assign(asked.size(), 0.0f);
      std::copy_n(keys, static_cast<size_t>(count) * head_dim, padded.data());
      keys = padded.data();
    }
    for (int j = 0; j < kTile; ++j) {
      std::copy(future.mean.begin(), future.mean.end(),
                asked.begin() + static_cast<size_t>(j) * head_dim);
    }
    Gemm({.m = kTile,
          .n = head_dim,
          .k = head_dim,
          .beta = 1,
          .a = {keys, head_dim, false},
          .b = {future.matrix.data(), head_dim, false},
          .c = asked.data(),
          .c_stride = head_dim});
    for (int j = 0; j < count; ++j) {
      const size_t row = static_cast<size_t>(j) * head_dim;
      logit[first + j] =
          scale * DotF32(keys + row, asked.data() + row, head_dim);
    }
  }
}

// score += softmax(logit) / group, over the finite ones; NaN for the others.
void AddShares(std::span<const float> logit, int group,
               std::span<float> score) {
  float top = std::numeric_limits<float>::lowest();
  for (const float x : logit) {
    if (std::isfinite(x)) top = std::max(top, x);
  }
  std::vector<double> weight(logit.size());
  double sum = 0;
  for (size_t j = 0; j < logit.size(); ++j) {
    if (!std::isfinite(logit[j])) {
      weight[j] = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    weight[j] = std::exp(static_cast<double>(logit[j]) - top);
    sum += weight[j];
  }
  for (size_t j = 0; j < logit.size(); ++j) {
    score[j] += static_cast<float>(weight[j] / sum / group);
  }
}

}  // namespace

MeanRotation::MeanRotation(const Rotation& rotation, int first, int count)
    : neox(rotation.neox),
      cosine(rotation.inv_freq.size()),
      sine(rotation.inv_freq.size()) {
  DCHECK(count > 0);
  for (size_t i = 0; i < cosine.size(); ++i) {
    for (int p = first; p < first + count; ++p) {
      const double angle = double{rotation.inv_freq[i]} * p;
      cosine[i] += std::cos(angle);
      sine[i] += std::sin(angle);
    }
    cosine[i] *= double{rotation.magnitude} / count;
    sine[i] *= double{rotation.magnitude} / count;
  }
}

void ExpectedAttentionScores(const ExpectedAttentionArgs& args,
                             std::span<float> score) {
  const int head_dim = args.statistics->head_dim();
  DCHECK(args.k.size() == static_cast<size_t>(args.n) * head_dim);
  DCHECK(score.size() == static_cast<size_t>(args.n));
  DCHECK(2 * static_cast<int>(args.rotation->cosine.size()) <= head_dim);
  DCHECK((args.kv_head + 1) * args.group <= args.statistics->heads());
  const int sinks = std::min(args.sinks, args.n);
  const auto ranked = score.subspan(sinks);
  std::fill(score.begin(), score.end(), 0.0f);
  std::vector<float> logit(ranked.size());
  for (int g = 0; g < args.group; ++g) {
    const FutureQuery future =
        FutureQueryOf(args, args.kv_head * args.group + g);
    Logits(future, args.attention_scale,
           args.k.subspan(static_cast<size_t>(sinks) * head_dim), logit);
    AddShares(logit, args.group, ranked);
  }
  for (float& x : ranked) x += args.epsilon;
  float best = args.epsilon;
  for (const float x : ranked) best = std::max(best, x);  // not a NaN
  std::fill_n(score.begin(), sinks, best);
}

namespace {

// As in kvpress' comparisons: a floor that lets the value norm speak for
// entries that nothing is expected to attend to.
constexpr float kExpectedEpsilon = 0.01f;

class ExpectedAttention final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = false,
            .all_rows = false,
            .query_statistics = true,
            .repetition = false,
            .gathers = false,
            .query_heads = true,
            .sums = false,
            .pools = false,
            .question_aware = false,
            .decodes = true,
            .streams = true,
            .sparse = true};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    const LayerView& view = r.view;
    LayerScores out;
    out.score = ZeroScores(view);
    const MeanRotation mean(view.rope, view.rope_position, kFuturePositions);
    r.pool->ParallelFor(view.kv_heads, [&](int h, int) {
      ExpectedAttentionArgs args;
      args.statistics = view.statistics;
      args.rotation = &mean;
      args.kv_head = h;
      args.group = view.group;
      args.n = view.n[h];
      args.sinks = std::min(r.spec.score.sinks, view.n[h]);
      args.k = view.keys(h);
      args.attention_scale = view.attention_scale;
      args.epsilon = kExpectedEpsilon;
      ExpectedAttentionScores(args, out.score[h]);
    });
    return out;
  }
};

}  // namespace

const Scorer* ExpectedAttentionScorer() {
  static constexpr ExpectedAttention scorer;
  return &scorer;
}

}  // namespace pyramidkv
