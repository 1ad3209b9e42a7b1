#include "policy/scorers/expected_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "kernels/rope.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

constexpr int kHeads = 6;
constexpr int kGroup = 3;
constexpr int kRows = 90;
constexpr int kSinks = 4;

using Matrix = std::vector<std::vector<double>>;

// The rotation at one position, written out.
Matrix RotationMatrix(const Rotation& rotation, int head_dim, int position) {
  Matrix r(head_dim, std::vector<double>(head_dim, 0.0));
  for (int d = 0; d < head_dim; ++d) r[d][d] = 1;
  const int pairs = static_cast<int>(rotation.inv_freq.size());
  for (int i = 0; i < pairs; ++i) {
    const int a = rotation.neox ? i : 2 * i;
    const int b = rotation.neox ? i + pairs : 2 * i + 1;
    const double angle = double{rotation.inv_freq[i]} * position;
    r[a][a] = r[b][b] = rotation.magnitude * std::cos(angle);
    r[b][a] = rotation.magnitude * std::sin(angle);
    r[a][b] = -r[b][a];
  }
  return r;
}

Matrix MeanMatrix(const Rotation& rotation, int head_dim, int first,
                  int count) {
  Matrix mean(head_dim, std::vector<double>(head_dim, 0.0));
  for (int p = first; p < first + count; ++p) {
    const Matrix r = RotationMatrix(rotation, head_dim, p);
    for (int i = 0; i < head_dim; ++i) {
      for (int j = 0; j < head_dim; ++j) mean[i][j] += r[i][j] / count;
    }
  }
  return mean;
}

// One layer: two KV heads of three query heads.
struct Layer {
  int head_dim;
  Rotation rotation;
  float scale;
  std::vector<float> q;  // [kRows, kHeads, head_dim]
  QueryStatistics statistics;

  Layer(int dim, const Rotation& r, uint32_t seed)
      : head_dim(dim),
        rotation(r),
        scale(1.1f / std::sqrt(static_cast<float>(dim))),
        q(RandomValues(kRows * kHeads * dim, seed, 0.4f, 1.5f)),
        statistics(kHeads, dim, kSinks) {
    statistics.Add(q, kRows, nullptr);
  }

  std::vector<float> Scores(const std::vector<float>& k, int kv_head, int first,
                            int count, float epsilon = 0) const {
    const MeanRotation mean(rotation, first, count);
    std::vector<float> score(k.size() / head_dim, 7.0f);
    ExpectedAttentionScores({.statistics = &statistics,
                             .rotation = &mean,
                             .kv_head = kv_head,
                             .group = kGroup,
                             .n = static_cast<int>(score.size()),
                             .sinks = kSinks,
                             .k = k,
                             .attention_scale = scale,
                             .epsilon = epsilon},
                            score);
    return score;
  }

  // log of the mean of exp(scale * q.k) over queries that are Gaussian with
  // the rotated moments: through d = R'k, so that no matrix is rotated.
  double Logit(int head, const Matrix& mean_rotation, const float* k) const {
    std::vector<double> turned(head_dim, 0.0);
    for (int i = 0; i < head_dim; ++i) {
      for (int j = 0; j < head_dim; ++j) {
        turned[j] += mean_rotation[i][j] * k[i];
      }
    }
    const int counted = kRows - kSinks;
    double mean = 0, square = 0;
    for (int pass = 0; pass < 2; ++pass) {
      for (int r = kSinks; r < kRows; ++r) {
        double dot = 0;
        for (int d = 0; d < head_dim; ++d) {
          dot += q[(r * kHeads + head) * head_dim + d] * turned[d];
        }
        if (pass == 0) mean += dot / counted;
        if (pass == 1) square += (dot - mean) * (dot - mean) / counted;
      }
    }
    return scale * mean + 0.5 * scale * scale * square;
  }

  std::vector<double> Naive(const std::vector<float>& k, int kv_head, int first,
                            int count) const {
    const Matrix rotation_mean = MeanMatrix(rotation, head_dim, first, count);
    const int n = static_cast<int>(k.size()) / head_dim;
    std::vector<double> score(n, 0.0);
    for (int g = 0; g < kGroup; ++g) {
      std::vector<double> weight(n, 0.0);
      double sum = 0;
      for (int j = kSinks; j < n; ++j) {
        weight[j] = std::exp(Logit(kv_head * kGroup + g, rotation_mean,
                                   k.data() + j * head_dim));
        sum += weight[j];
      }
      for (int j = kSinks; j < n; ++j) score[j] += weight[j] / sum / kGroup;
    }
    const double best = *std::max_element(score.begin(), score.end());
    std::fill_n(score.begin(), std::min(n, kSinks), best);
    return score;
  }
};

TEST(ExpectedAttentionTest, EveryLayoutAgainstWholeMatrices) {
  const std::vector<float> inv_freq = {1.0f, 0.3f, 0.1f, 0.02f};
  // Head size, rotated pairs, neox, magnitude.
  const std::tuple<int, int, bool, float> cases[] = {
      {8, 4, true, 1.0f},   {8, 4, false, 1.0f}, {12, 4, true, 1.2f},
      {12, 3, false, 0.9f}, {5, 1, true, 1.0f},  {7, 0, false, 1.0f}};
  uint32_t seed = 1;
  for (const auto& [head_dim, pairs, neox, magnitude] : cases) {
    const Rotation rotation = {std::span(inv_freq).first(pairs), neox,
                               magnitude};
    const Layer layer(head_dim, rotation, ++seed);
    for (int n : {kSinks + 1, 33, 131, 132, 133, 300}) {
      const auto k = RandomValues(n * head_dim, 100 + seed + n);
      for (int kv_head = 0; kv_head < kHeads / kGroup; ++kv_head) {
        const auto got = layer.Scores(k, kv_head, kRows, 20);
        const auto want = layer.Naive(k, kv_head, kRows, 20);
        for (int j = 0; j < n; ++j) {
          EXPECT_NEAR(got[j], want[j], 1e-5 * want[j] + 1e-9)
              << "head size " << head_dim << ", " << n << " entries, " << j;
        }
      }
    }
  }
}

TEST(ExpectedAttentionTest, MeanOfOnePositionIsItsRotation) {
  const std::vector<float> inv_freq = {1.0f, 0.25f, 0.0001f};
  for (int position : {0, 1, 4096, 100000}) {
    const MeanRotation mean({inv_freq, true, 1.3f}, position, 1);
    float table[6];
    RopeTable(inv_freq.data(), 3, position, 1.3f, table);
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(mean.cosine[i], table[i], 1e-6);
      EXPECT_NEAR(mean.sine[i], table[3 + i], 1e-6);
    }
  }
}

TEST(ExpectedAttentionTest, MeanShrinksFastPairs) {
  const std::vector<float> inv_freq = {1.0f, 1e-6f};
  const MeanRotation mean({inv_freq, false, 1.0f}, 2000, kFuturePositions);
  EXPECT_LT(std::hypot(mean.cosine[0], mean.sine[0]), 0.01);
  EXPECT_NEAR(std::hypot(mean.cosine[1], mean.sine[1]), 1, 1e-6);
}

TEST(ExpectedAttentionTest, SharesSumToOneAndEpsilonIsAdded) {
  const std::vector<float> inv_freq = {1.0f, 0.1f};
  const Layer layer(4, {inv_freq, true, 1.0f}, 5);
  const int n = 50;
  const auto k = RandomValues(n * 4, 6);
  const auto plain = layer.Scores(k, 1, kRows, kFuturePositions);
  const auto more = layer.Scores(k, 1, kRows, kFuturePositions, 0.25f);
  double sum = 0;
  for (int j = kSinks; j < n; ++j) sum += plain[j];
  EXPECT_NEAR(sum, 1, 1e-6);
  for (int j = 0; j < n; ++j) EXPECT_EQ(more[j], plain[j] + 0.25f);
}

TEST(ExpectedAttentionTest, KeysThatAreNotFiniteTakeNoShare) {
  const std::vector<float> inv_freq = {1.0f, 0.1f};
  const Layer layer(4, {inv_freq, false, 1.0f}, 7);
  const auto clean = RandomValues(40 * 4, 8);
  const auto want = layer.Scores(clean, 0, kRows, 30);
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    auto k = clean;
    k.insert(k.begin() + 10 * 4, {1, bad, 1, 1});
    const auto got = layer.Scores(k, 0, kRows, 30);
    EXPECT_TRUE(std::isnan(got[10]));
    for (int j = 0; j < 40; ++j) EXPECT_EQ(got[j < 10 ? j : j + 1], want[j]);
  }
}

TEST(ExpectedAttentionTest, NothingToRank) {
  const std::vector<float> inv_freq = {1.0f};
  const MeanRotation mean({inv_freq, true, 1.0f}, 2, kFuturePositions);
  QueryStatistics none(1, 2, kSinks);
  none.Add(RandomValues(2 * 2, 1), 2, nullptr);  // sinks only
  ExpectedAttentionArgs args;
  args.statistics = &none;
  args.rotation = &mean;
  args.group = 1;
  args.sinks = kSinks;
  args.attention_scale = 1;
  for (int n : {0, 1, 4, 9}) {
    const auto k = RandomValues(n * 2, n);
    args.n = n;
    args.k = k;
    std::vector<float> score(n, 7.0f);
    ExpectedAttentionScores(args, score);
    for (float x : score) EXPECT_EQ(x, n <= kSinks ? 0.0f : 0.2f);
  }
}

}  // namespace
}  // namespace pyramidkv
