#include "policy/scorers/redundancy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "policy/testing/golden.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

std::vector<float> Redundancy(const std::vector<float>& k, int n, int head_dim,
                              int window, float threshold = 0.5f) {
  std::vector<float> out(n, 7.0f);
  KeyRedundancy(k, n, head_dim, {window, threshold}, out);
  return out;
}

TEST(KeyRedundancyTest, G18) {
  const double want[] = {0.154424, 0.165261, 0.101029, 0.108142,
                         0.099128, 0.103866, 0.145606, 0.122545};
  auto k = Golden(1);
  k.resize(8 * kGoldenDim);
  for (int window : {7, 8, 1000, std::numeric_limits<int>::max()}) {
    const auto got = Redundancy(k, 8, kGoldenDim, window);
    for (int j = 0; j < 8; ++j) EXPECT_NEAR(got[j], want[j], 1e-6);
  }
}

// The matrix of all cosines, row by row, as the definition reads.
std::vector<double> Naive(const std::vector<float>& k, int n, int head_dim,
                          int window, double threshold) {
  const auto cosine = [&](int i, int j) {
    double dot = 0, a = 0, b = 0;
    for (int d = 0; d < head_dim; ++d) {
      const double x = k[i * head_dim + d], y = k[j * head_dim + d];
      dot += x * y;
      a += x * x;
      b += y * y;
    }
    return dot / ((std::sqrt(a) + 1e-8) * (std::sqrt(b) + 1e-8));
  };
  std::vector<double> sum(n, 0.0), rows(n, 0.0), out(n);
  for (int i = 0; i < n; ++i) {
    std::vector<double> row(n, 0.0);
    int newest = -1;
    for (int j = 0; j < n; ++j) {
      if (std::abs(i - j) > window) continue;
      rows[j] += 1;
      if (i == j) continue;
      row[j] = cosine(i, j);
      if (row[j] > threshold) newest = j;
    }
    if (newest >= 0) row[newest] = 0;
    for (int j = 0; j < n; ++j) sum[j] += row[j];
  }
  double total = 0;
  for (int j = 0; j < n; ++j) total += out[j] = std::exp(sum[j] / rows[j]);
  for (double& x : out) x /= total;
  return out;
}

TEST(KeyRedundancyTest, EveryWindowAgainstTheWholeMatrix) {
  for (int head_dim : {2, 5, 16}) {
    for (int n : {1, 2, 63, 64, 65, 150, 200}) {
      // Keys around a common mean: many pairs are near duplicates.
      const auto k = RandomValues(n * head_dim, n + head_dim, 0.4f);
      for (int window : {1, 2, 30, 63, 64, 65, 128, n}) {
        const auto got = Redundancy(k, n, head_dim, window, 0.45f);
        const auto want = Naive(k, n, head_dim, window, 0.45);
        double sum = 0;
        for (int j = 0; j < n; ++j) {
          EXPECT_NEAR(got[j], want[j], 2e-6 * want[j])
              << n << " keys, window " << window << ", entry " << j;
          sum += got[j];
        }
        EXPECT_NEAR(sum, 1, 1e-5);
      }
    }
  }
}

// The last of three equal keys is the newest duplicate of the first two, and
// the second of the last: the first is the most redundant of them.
TEST(KeyRedundancyTest, TheNewestOfSeveralStays) {
  const auto got = Redundancy({1, 0, 1, 0, 1, 0, 0, 1}, 4, 2, 4);
  EXPECT_GT(got[0], got[1]);
  EXPECT_GT(got[1], got[2]);
  EXPECT_FLOAT_EQ(got[2], got[3]);
}

TEST(KeyRedundancyTest, DuplicatesBeyondTheWindowAreNotSeen) {
  std::vector<float> k(8 * 8, 0.0f);  // eight orthogonal keys,
  for (int j = 0; j < 8; ++j) k[j * 8 + j] = 1;
  k[7 * 8 + 7] = 0, k[7 * 8] = 1;  // the last equal to the first
  const auto near = Redundancy(k, 8, 8, 6), all = Redundancy(k, 8, 8, 7);
  for (int j = 0; j < 8; ++j) {
    EXPECT_FLOAT_EQ(near[j], 0.125f);
    // Both are each other's newest duplicate.
    EXPECT_FLOAT_EQ(all[j], 0.125f);
  }
  k[3 * 8 + 3] = 0, k[3 * 8] = 1;  // and one in the middle
  const auto three = Redundancy(k, 8, 8, 7);
  EXPECT_GT(three[0], 0.125f);
  EXPECT_FLOAT_EQ(Redundancy(k, 8, 8, 2)[0], 0.125f);
}

TEST(KeyRedundancyTest, KeysThatAreNotFinite) {
  auto k = RandomValues(100 * 4, 3, 0.5f);
  k[70 * 4 + 1] = kNan;
  k[20 * 4] = kInfinity;
  const auto got = Redundancy(k, 100, 4, 40);
  double sum = 0;
  for (int j = 0; j < 100; ++j) {
    EXPECT_EQ(std::isnan(got[j]), j == 70 || j == 20) << j;
    if (!std::isnan(got[j])) sum += got[j];
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(KeyRedundancyTest, ZeroKeysAndNoKeys) {
  EXPECT_EQ(Redundancy({0, 0, 0, 0}, 2, 2, 1), (std::vector<float>{0.5, 0.5}));
  EXPECT_TRUE(Redundancy({}, 0, 2, 1).empty());
}

TEST(JointScoresTest, Mix) {
  std::vector<float> importance = {0.5f, 0.25f, kNan};
  const std::vector<float> redundancy = {0.25f, 0.5f, 0.25f};
  std::vector<float> out(3);
  JointScores(importance, redundancy, 1, out);
  EXPECT_EQ(out[0], 0.5f);
  JointScores(importance, redundancy, 0, out);
  EXPECT_EQ(out[1], -0.5f);
  JointScores(importance, redundancy, 0.25f, importance);
  EXPECT_FLOAT_EQ(importance[0], -0.0625f);
  EXPECT_FLOAT_EQ(importance[1], -0.3125f);
  EXPECT_TRUE(std::isnan(importance[2]));
}

}  // namespace
}  // namespace pyramidkv
