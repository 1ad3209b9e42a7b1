#include "policy/scorers/key_norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/rope.h"
#include "policy/select.h"
#include "policy/testing/golden.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

std::vector<float> Scores(const std::vector<float>& k, int n, int head_dim) {
  std::vector<float> score(n, 7.0f);
  KeyNormScores(k, n, head_dim, score);
  return score;
}

TEST(KeyNormTest, G11) {
  const std::vector<double> want = {1.045825, 1.045825, 1.192424, 1.441570,
                                    1.316957, 1.205456, 0.984251, 1.159202,
                                    1.231107, 1.510381, 1.231107, 1.159202,
                                    0.984251, 1.205456, 1.316957, 1.441570};
  const auto score = Scores(Golden(1), kGoldenTokens, kGoldenDim);
  for (int j = 0; j < kGoldenTokens; ++j) {
    EXPECT_NEAR(score[j], -want[j], 1e-6);
  }
  EXPECT_THAT(SelectKept(CacheSpec{}, score, kGoldenTokens, 6),
              testing::ElementsAre(0, 1, 6, 7, 11, 12));
}

TEST(KeyNormTest, LengthOfEveryShape) {
  for (int head_dim : {1, 3, 4, 63, 64, 128}) {
    for (int n : {0, 1, 2, 33}) {
      const auto k = RandomValues(n * head_dim, head_dim);
      const auto score = Scores(k, n, head_dim);
      for (int j = 0; j < n; ++j) {
        double sum = 0;
        for (int d = 0; d < head_dim; ++d) {
          sum += std::pow(k[j * head_dim + d], 2.0);
        }
        EXPECT_NEAR(score[j], -std::sqrt(sum), 1e-6 * std::sqrt(sum));
      }
    }
  }
}

// Scores do not change with the position that RoPE has given a key.
TEST(KeyNormTest, RopeDoesNotMatter) {
  const float inv_freq[] = {1.0f, 0.1f, 0.01f};
  auto k = RandomValues(8 * 8, 3);
  const auto before = Scores(k, 8, 8);
  for (int j = 0; j < 8; ++j) {
    float table[6];
    RopeTable(inv_freq, 3, 1000 * j, 1.0f, table);
    ApplyRope(table, 3, true, 1, 8, k.data() + j * 8);
  }
  const auto after = Scores(k, 8, 8);
  for (int j = 0; j < 8; ++j) EXPECT_NEAR(after[j], before[j], 1e-5);
}

TEST(KeyNormTest, NumbersAtTheEnds) {
  const std::vector<float> k = {1e30f, 1e30f, kNan, 0, 0, kInfinity, 0, 0};
  const auto score = Scores(k, 4, 2);
  EXPECT_NEAR(score[0] / -1.41421356e30f, 1, 1e-6);  // squares overflow f32
  EXPECT_TRUE(std::isnan(score[1]));
  EXPECT_EQ(score[2], -kInfinity);
  EXPECT_EQ(score[3], 0);
  EXPECT_THAT(SelectKept(CacheSpec{}, score, 4, 2), testing::ElementsAre(0, 3));
}

}  // namespace
}  // namespace pyramidkv
