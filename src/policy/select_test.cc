#include "policy/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "policy/testing/golden.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

CacheSpec Spec(const std::string& text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

// Window sums of the past entries for queries A (s = 2) or B (s = 5).
std::vector<float> PastSums(int s) {
  const auto sums = NaiveWindowSums(Golden(s, 2), Golden(1), kGoldenTokens,
                                    kGoldenDim, kGoldenWindow, 0.5);
  return {sums.begin(), sums.begin() + kGoldenPast};
}

std::vector<float> Pooled(PoolKind kind, int kernel,
                          const std::vector<float>& in) {
  std::vector<float> out(in.size());
  Pool1d(kind, kernel, in, out);
  return out;
}

// The best `count` of past scores; nothing is protected.
std::vector<int> Best(const std::vector<float>& scores, int count) {
  return SelectKept(Spec("snapkv,keep=1,recent=0"), scores,
                    static_cast<int>(scores.size()), count);
}

void ExpectNear(const std::vector<float>& got,
                const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], 1e-6) << "entry " << i;
  }
}

TEST(GoldenTest, G1G2WindowSums) {
  ExpectNear(PastSums(2),
             {0.210336, 0.206829, 0.253637, 0.401096, 0.510753, 0.453187,
              0.207371, 0.209575, 0.292412, 0.191710, 0.485951, 0.214972});
  ExpectNear(PastSums(5),
             {0.334545, 0.276825, 0.234484, 0.201913, 0.340643, 0.272334,
              0.311814, 0.263659, 0.222603, 0.155497, 0.315591, 0.361499});
}

TEST(GoldenTest, G3AveragePool) {
  const auto pooled = Pooled(PoolKind::kAvg, 5, PastSums(2));
  ExpectNear(pooled,
             {0.134160, 0.214380, 0.316530, 0.365100, 0.365209, 0.356396,
              0.334659, 0.270851, 0.277404, 0.278924, 0.237009, 0.178527});
  // In order of score 4 3 5 6 2 9: each of them enters in that order.
  EXPECT_THAT(Best(pooled, 1), ElementsAre(4));
  EXPECT_THAT(Best(pooled, 2), ElementsAre(3, 4));
  EXPECT_THAT(Best(pooled, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(Best(pooled, 4), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(Best(pooled, 5), ElementsAre(2, 3, 4, 5, 6));
  EXPECT_THAT(Best(pooled, 6), ElementsAre(2, 3, 4, 5, 6, 9));
}

TEST(GoldenTest, G4G5MaxPool) {
  const auto seven = Pooled(PoolKind::kMax, 7, PastSums(2));
  const double a = 0.510753, b = 0.485951;
  ExpectNear(seven, {0.401096, a, a, a, a, a, a, a, b, b, b, b});
  EXPECT_THAT(Best(seven, 6), ElementsAre(1, 2, 3, 4, 5, 6));
  const auto three = Pooled(PoolKind::kMax, 3, PastSums(2));
  ExpectNear(three, {0.210336, 0.253637, 0.401096, a, a, a, 0.453187, 0.292412,
                     0.292412, b, b, b});
  EXPECT_THAT(Best(three, 6), ElementsAre(3, 4, 5, 9, 10, 11));
}

TEST(GoldenTest, G6G7ReduceThenPool) {
  const auto a = PastSums(2), b = PastSums(5);
  std::vector<float> mean(a.size()), max(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    mean[i] = (a[i] + b[i]) / 2;
    max[i] = std::max(a[i], b[i]);
  }
  const auto pooled = Pooled(PoolKind::kMax, 3, mean);
  ExpectNear(pooled,
             {0.272440, 0.272440, 0.301505, 0.425698, 0.425698, 0.425698,
              0.362760, 0.259593, 0.257508, 0.400771, 0.400771, 0.400771});
  EXPECT_THAT(Best(pooled, 6), ElementsAre(3, 4, 5, 9, 10, 11));
  ExpectNear(Pooled(PoolKind::kMax, 3, max),
             {0.334545, 0.334545, 0.401096, 0.510753, 0.510753, 0.510753,
              0.453187, 0.311814, 0.292412, 0.485951, 0.485951, 0.485951});
}

TEST(Pool1dTest, IsTheDefinitionForAnyLength) {
  std::mt19937 rng(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int n : {1, 2, 3, 7, 40}) {
    std::vector<float> in(n);
    for (float& x : in) x = uniform(rng);
    for (int kernel : {1, 3, 5, 31, 101}) {
      const auto avg = Pooled(PoolKind::kAvg, kernel, in);
      const auto max = Pooled(PoolKind::kMax, kernel, in);
      for (int i = 0; i < n; ++i) {
        double sum = 0;
        float top = -std::numeric_limits<float>::infinity();
        for (int j = i - kernel / 2; j <= i + kernel / 2; ++j) {
          if (j < 0 || j >= n) continue;
          sum += in[j];
          top = std::max(top, in[j]);
        }
        EXPECT_NEAR(avg[i], sum / kernel, 1e-6) << n << " " << kernel;
        EXPECT_EQ(max[i], top) << n << " " << kernel;
      }
    }
  }
}

struct ProtectedCase {
  const char* spec;
  int length, budget, sinks, recent;
};

class ProtectedTest : public testing::TestWithParam<ProtectedCase> {};

TEST_P(ProtectedTest, Counts) {
  const ProtectedCase& c = GetParam();
  const Protected p = ProtectedEntries(Spec(c.spec), c.length, c.budget);
  EXPECT_EQ(p.sinks, c.sinks) << c.spec;
  EXPECT_EQ(p.recent, c.recent) << c.spec;
}

INSTANTIATE_TEST_SUITE_P(
    All, ProtectedTest,
    testing::Values(ProtectedCase{"snapkv,keep=1", 100, 50, 0, 32},
                    ProtectedCase{"snapkv,keep=1", 100, 20, 0, 20},
                    ProtectedCase{"snapkv,keep=1", 10, 50, 0, 10},
                    ProtectedCase{"snapkv-wide,keep=1", 100, 50, 4, 16},
                    ProtectedCase{"snapkv-wide,keep=1", 100, 18, 2, 16},
                    ProtectedCase{"llama", 100, 51, 4, 25},
                    ProtectedCase{"llama", 100, 9, 4, 4},
                    ProtectedCase{"llama,select=recent", 100, 51, 4, 47},
                    ProtectedCase{"llama,select=recent", 100, 3, 2, 1}));

TEST(SelectKeptTest, OrderIsScoreThenIndexAndNanIsLast) {
  const CacheSpec s = Spec("snapkv,keep=1,recent=0");
  const std::vector<float> scores = {kNan, 1, 2, 2, kNan, 2, 0};
  EXPECT_THAT(SelectKept(s, scores, 7, 2), ElementsAre(2, 3));
  EXPECT_THAT(SelectKept(s, scores, 7, 4), ElementsAre(1, 2, 3, 5));
  EXPECT_THAT(SelectKept(s, scores, 7, 6), ElementsAre(0, 1, 2, 3, 5, 6));
  const std::vector<float> nothing(5, kNan);
  EXPECT_THAT(SelectKept(s, nothing, 5, 2), ElementsAre(0, 1));
}

TEST(SelectKeptTest, ProtectedEntriesIgnoreTheirScores) {
  const CacheSpec s = Spec("snapkv,keep=1,sinks=2,recent=3");
  const std::vector<float> scores = {-9, kNan, 1, 5, 3, 4, -9, kNan, -9};
  EXPECT_THAT(SelectKept(s, scores, 9, 7), ElementsAre(0, 1, 3, 5, 6, 7, 8));
  EXPECT_THAT(SelectKept(s, scores, 9, 3), ElementsAre(6, 7, 8));
  EXPECT_THAT(SelectKept(s, scores, 9, 9).size(), 9u);
  EXPECT_THAT(SelectKept(s, scores, 9, 90).size(), 9u);
}

TEST(SelectKeptTest, MixedIsNewestHalfAndBestHalf) {
  // The description's rule: budget 6 = the newest 3 and the best 3 before.
  const CacheSpec s = Spec("llama,sinks=0");
  const std::vector<float> scores = {7, 1, 9, 2, 8, 3, 9, 9, 9};
  EXPECT_THAT(SelectKept(s, scores, 9, 6), ElementsAre(0, 2, 4, 6, 7, 8));
}

TEST(SelectKeptTest, RecentNeedsNoScores) {
  EXPECT_THAT(SelectKept(Spec("llama,select=recent,sinks=2"), {}, 10, 5),
              ElementsAre(0, 1, 7, 8, 9));
}

// Against a full sort, with many ties.
TEST(SelectKeptTest, RandomAgainstSort) {
  std::mt19937 rng(11);
  for (int trial = 0; trial < 500; ++trial) {
    const int n = 1 + rng() % 60, budget = 1 + rng() % 60;
    CacheSpec s = Spec("snapkv,keep=1");
    s.score.sinks = rng() % 4;
    s.score.recent = rng() % 3 == 0 ? kRecentHalf : static_cast<int>(rng() % 9);
    std::vector<float> scores(n);
    for (float& x : scores) {
      x = rng() % 10 == 0 ? kNan : static_cast<float>(rng() % 6);
    }
    const int recent = s.score.recent == kRecentHalf
                           ? std::min(budget, n) / 2
                           : std::min({s.score.recent, budget, n});
    const int sinks = std::min(s.score.sinks, std::min(budget, n) - recent);
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    const auto rank = [&](int i) {
      if (i < sinks || i >= n - recent) return 100.0f;
      return std::isnan(scores[i]) ? -1.0f : scores[i];
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return rank(a) > rank(b); });
    order.resize(std::min(n, budget));
    std::sort(order.begin(), order.end());
    ASSERT_EQ(SelectKept(s, scores, n, budget), order) << "trial " << trial;
  }
}

}  // namespace
}  // namespace pyramidkv
