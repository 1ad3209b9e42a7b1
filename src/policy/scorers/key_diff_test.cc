#include "policy/scorers/key_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "policy/select.h"
#include "policy/testing/golden.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

std::vector<float> Scores(const std::vector<float>& k, int n, int head_dim) {
  std::vector<float> score(n, 7.0f);
  KeyDiffScores(k, n, head_dim, score);
  return score;
}

TEST(KeyDiffTest, G13) {
  const std::vector<double> want = {-0.782716, -0.804836, -0.101635, -0.100117,
                                    0.768686,  0.820596,  -0.839517, -0.732770,
                                    -0.104705, 0.398805,  0.816025,  -0.699510,
                                    -0.847351, -0.094140, -0.103735, 0.707587};
  const auto score = Scores(Golden(1), kGoldenTokens, kGoldenDim);
  for (int j = 0; j < kGoldenTokens; ++j) EXPECT_NEAR(score[j], want[j], 1e-6);
  EXPECT_THAT(SelectKept(CacheSpec{}, score, kGoldenTokens, 8),
              testing::ElementsAre(2, 3, 4, 5, 9, 10, 13, 15));
}

double Cosine(const double* a, const float* b, int head_dim) {
  double dot = 0, aa = 0, bb = 0;
  for (int d = 0; d < head_dim; ++d) {
    dot += a[d] * b[d];
    aa += a[d] * a[d];
    bb += static_cast<double>(b[d]) * b[d];
  }
  return dot / std::sqrt(aa * bb);
}

TEST(KeyDiffTest, CosineToTheMeanOfUnitKeys) {
  for (int head_dim : {2, 7, 64}) {
    for (int n : {1, 2, 31, 100}) {
      const auto k = RandomValues(n * head_dim, 10 * n + head_dim, 0.3f);
      std::vector<double> mean(head_dim, 0.0);
      for (int j = 0; j < n; ++j) {
        double square = 0;
        for (int d = 0; d < head_dim; ++d) {
          square += std::pow(k[j * head_dim + d], 2.0);
        }
        for (int d = 0; d < head_dim; ++d) {
          mean[d] += k[j * head_dim + d] / std::sqrt(square) / n;
        }
      }
      const auto score = Scores(k, n, head_dim);
      for (int j = 0; j < n; ++j) {
        EXPECT_NEAR(score[j],
                    -Cosine(mean.data(), k.data() + j * head_dim, head_dim),
                    1e-6);
      }
    }
  }
}

TEST(KeyDiffTest, LengthsDoNotMatter) {
  auto k = RandomValues(20 * 8, 4);
  const auto before = Scores(k, 20, 8);
  for (int j = 0; j < 20; ++j) {
    for (int d = 0; d < 8; ++d) k[j * 8 + d] *= 0.5f + j;
  }
  const auto after = Scores(k, 20, 8);
  for (int j = 0; j < 20; ++j) EXPECT_NEAR(after[j], before[j], 1e-6);
}

TEST(KeyDiffTest, KeysThatAreNotFiniteDoNotTouchTheOthers) {
  const auto clean = RandomValues(20 * 8, 5);
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    auto k = clean;
    k.insert(k.begin() + 8 * 3, clean.begin(), clean.begin() + 8);
    k[8 * 3 + 2] = bad;
    const auto want = Scores(clean, 20, 8), got = Scores(k, 21, 8);
    EXPECT_TRUE(std::isnan(got[3]));
    for (int j = 0; j < 20; ++j) EXPECT_EQ(got[j < 3 ? j : j + 1], want[j]);
  }
}

TEST(KeyDiffTest, ZeroKeysHaveNoDirection) {
  EXPECT_THAT(Scores({0, 0, 0, 0}, 2, 2), testing::Each(0.0f));
  // Opposite keys: there is no mean direction.
  EXPECT_THAT(Scores({1, 0, -1, 0}, 2, 2), testing::Each(0.0f));
  const auto score = Scores({0, 0, 2, 0}, 2, 2);
  EXPECT_EQ(score[0], 0);
  EXPECT_EQ(score[1], -1);
  EXPECT_TRUE(Scores({}, 0, 2).empty());
}

}  // namespace
}  // namespace pyramidkv
