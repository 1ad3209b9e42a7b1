#include "policy/query_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

using Moments = QueryStatistics::Moments;

// In two passes over the rows of one head, in double.
Moments Naive(const std::vector<float>& q, int rows, int heads, int head_dim,
              int head, int sinks) {
  Moments m;
  m.mean.resize(head_dim);
  m.covariance.resize(head_dim * head_dim);
  const auto at = [&](int r, int d) {
    return static_cast<double>(q[(r * heads + head) * head_dim + d]);
  };
  for (int pass = 0; pass < 2; ++pass) {
    m.count = 0;
    for (int r = sinks; r < rows; ++r) {
      bool finite = true;
      for (int d = 0; d < head_dim; ++d) finite &= std::isfinite(at(r, d));
      if (!finite) continue;
      ++m.count;
      for (int i = 0; i < head_dim; ++i) {
        if (pass == 0) m.mean[i] += at(r, i);
        for (int j = 0; pass == 1 && j < head_dim; ++j) {
          m.covariance[i * head_dim + j] +=
              (at(r, i) - m.mean[i]) * (at(r, j) - m.mean[j]);
        }
      }
    }
    const double divisor = std::max<double>(1, m.count);
    for (double& x : pass == 0 ? m.mean : m.covariance) x /= divisor;
  }
  return m;
}

void ExpectNear(const Moments& got, const Moments& want, double tolerance) {
  EXPECT_EQ(got.count, want.count);
  for (size_t i = 0; i < want.mean.size(); ++i) {
    EXPECT_NEAR(got.mean[i], want.mean[i], 1e-9 * (1 + std::abs(want.mean[i])));
  }
  for (size_t i = 0; i < want.covariance.size(); ++i) {
    EXPECT_NEAR(got.covariance[i], want.covariance[i], tolerance);
  }
}

bool Same(const Moments& a, const Moments& b) {
  return a.count == b.count && a.mean == b.mean && a.covariance == b.covariance;
}

TEST(QueryStatisticsTest, EveryShapeAgainstTwoPasses) {
  for (int heads : {1, 3}) {
    for (int head_dim : {1, 6, 17, 64}) {
      for (int rows : {0, 1, 4, 5, 63, 64, 65, 200}) {
        const auto q =
            RandomValues(rows * heads * head_dim, rows + head_dim, 0.5f);
        for (int sinks : {0, 4, 70}) {
          QueryStatistics statistics(heads, head_dim, sinks);
          statistics.Add(q, rows, nullptr);
          EXPECT_EQ(statistics.positions(), rows);
          for (int h = 0; h < heads; ++h) {
            ExpectNear(statistics.Of(h),
                       Naive(q, rows, heads, head_dim, h, sinks), 1e-6);
          }
        }
      }
    }
  }
}

// However a prompt is sliced, and whether somebody looked in between.
TEST(QueryStatisticsTest, SlicesDoNotChangeABit) {
  const int heads = 2, head_dim = 24, rows = 333, row = heads * head_dim;
  const auto q = RandomValues(rows * row, 7, 1.0f);
  QueryStatistics whole(heads, head_dim, 4);
  whole.Add(q, rows, nullptr);
  std::mt19937 rng(8);
  for (int trial = 0; trial < 20; ++trial) {
    QueryStatistics sliced(heads, head_dim, 4);
    for (int at = 0; at < rows;) {
      const int most = trial % 2 == 0 ? 9 : 150;
      const int count = std::min<int>(rows - at, 1 + rng() % most);
      sliced.Add(std::span<const float>(q).subspan(at * row, count * row),
                 count, nullptr);
      at += count;
      if (rng() % 3 == 0) (void)sliced.Of(1);
    }
    for (int h = 0; h < heads; ++h) {
      EXPECT_TRUE(Same(sliced.Of(h), whole.Of(h))) << "trial " << trial;
    }
  }
}

TEST(QueryStatisticsThreadedTest, ThreadsDoNotChangeABit) {
  const int heads = 5, head_dim = 16, rows = 200;
  const auto q = RandomValues(rows * heads * head_dim, 9);
  QueryStatistics one(heads, head_dim, 4), two(heads, head_dim, 4);
  ThreadPool pool(2);
  one.Add(q, rows, nullptr);
  two.Add(q, rows, &pool);
  for (int h = 0; h < heads; ++h) EXPECT_TRUE(Same(one.Of(h), two.Of(h)));
}

// E[qq'] - E[q]E[q]' would be off by more than the variance itself.
TEST(QueryStatisticsTest, SmallVarianceAroundALargeMean) {
  const int head_dim = 8, rows = 2000;
  const auto q = RandomValues(rows * head_dim, 10, 1000.0f, 0.05f);
  QueryStatistics statistics(1, head_dim, 0);
  statistics.Add(q, rows, nullptr);
  ExpectNear(statistics.Of(0), Naive(q, rows, 1, head_dim, 0, 0),
             1e-5 * 0.05 * 0.05);
}

TEST(QueryStatisticsTest, RowsThatAreNotFiniteDoNotCount) {
  const int heads = 2, head_dim = 5, rows = 150;
  auto q = RandomValues(rows * heads * head_dim, 11);
  q[(20 * heads + 0) * head_dim + 3] = kNan;
  q[(20 * heads + 1) * head_dim + 0] = kInfinity;
  q[(149 * heads + 0) * head_dim + 4] = -kInfinity;
  for (int r = 64; r < 128; ++r) q[(r * heads + 1) * head_dim] = kNan;
  QueryStatistics statistics(heads, head_dim, 4);
  statistics.Add(q, rows, nullptr);
  EXPECT_EQ(statistics.Of(0).count, 144);
  EXPECT_EQ(statistics.Of(1).count, 81);
  for (int h = 0; h < heads; ++h) {
    ExpectNear(statistics.Of(h), Naive(q, rows, heads, head_dim, h, 4), 1e-6);
  }
}

TEST(QueryStatisticsTest, NoRowsAreZeros) {
  QueryStatistics statistics(1, 3, 4);
  statistics.Add(RandomValues(3 * 3, 12), 3, nullptr);
  const Moments m = statistics.Of(0);
  EXPECT_EQ(m.count, 0);
  EXPECT_EQ(m.mean, std::vector<double>(3, 0.0));
  EXPECT_EQ(m.covariance, std::vector<double>(9, 0.0));
}

}  // namespace
}  // namespace pyramidkv
