#include "kernels/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "kernels/testing/all_targets.h"
#include "kernels/testing/fused_targets.h"

namespace pyramidkv {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

KMeansArgs Args(const std::vector<float>& rows, int dim, int clusters) {
  KMeansArgs args;
  args.n = static_cast<int>(rows.size()) / dim;
  args.dim = dim;
  args.rows = rows.data();
  args.clusters = clusters;
  args.options.seed = 7;
  return args;
}

// Blob j is around 10 * (j + 1) in channel j and half of that in the next.
std::vector<float> Blobs(int blobs, int each, int dim) {
  auto rows = RandomFloats(size_t(blobs) * each * dim, 3, 0.02f);
  for (int i = 0; i < blobs * each; ++i) {
    const int j = i % blobs;
    const float far = 10.0f * static_cast<float>(j + 1);
    rows[size_t(i) * dim + j % dim] += far;
    rows[size_t(i) * dim + (j + 1) % dim] += far / 2;
  }
  return rows;
}

double SquaredDistance(const float* a, const float* b, int dim) {
  double sum = 0;
  for (int c = 0; c < dim; ++c) sum += (double{a[c]} - b[c]) * (a[c] - b[c]);
  return sum;
}

double Inertia(const KMeansArgs& a, const KMeansResult& r) {
  double sum = 0;
  for (int i = 0; i < a.n; ++i) {
    sum += SquaredDistance(a.rows + size_t(i) * a.dim,
                           r.centroids.data() + size_t(r.assignment[i]) * a.dim,
                           a.dim);
  }
  return sum;
}

void ExpectEqual(const KMeansResult& a, const KMeansResult& b) {
  EXPECT_EQ(a.clusters, b.clusters);
  EXPECT_EQ(a.assignment, b.assignment);
  EXPECT_EQ(a.centroids, b.centroids);
}

// Laws of every result on finite rows.
void ExpectLaws(const KMeansArgs& a, const KMeansResult& r) {
  ASSERT_EQ(r.assignment.size(), size_t(a.n));
  ASSERT_EQ(r.centroids.size(), size_t(r.clusters) * a.dim);
  EXPECT_LE(r.clusters, a.clusters);
  std::vector<int> size(r.clusters);
  std::vector<double> mean(r.centroids.size());
  for (int i = 0; i < a.n; ++i) {
    const int j = r.assignment[i];
    ASSERT_TRUE(j >= 0 && j < r.clusters);
    ++size[j];
    for (int c = 0; c < a.dim; ++c) {
      mean[size_t(j) * a.dim + c] += a.rows[size_t(i) * a.dim + c];
    }
  }
  for (int j = 0; j < r.clusters; ++j) {
    ASSERT_GT(size[j], 0) << "cluster " << j;
    for (int c = 0; c < a.dim; ++c) {
      const size_t at = size_t(j) * a.dim + c;
      const double want = mean[at] / size[j];
      ASSERT_NEAR(r.centroids[at], want, 1e-7 * std::abs(want));
    }
  }
}

// Plain k-means in double: random rows as a start, then steps until nothing
// changes; the best of five.
double NaiveInertia(const KMeansArgs& a) {
  std::mt19937 random(1);
  double best = std::numeric_limits<double>::infinity();
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::vector<int> order(a.n), nearest(a.n, -1);
    for (int i = 0; i < a.n; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    std::vector<float> centroids;
    for (int j = 0; j < a.clusters; ++j) {
      const float* row = a.rows + size_t(order[j]) * a.dim;
      centroids.insert(centroids.end(), row, row + a.dim);
    }
    double inertia = 0;
    for (bool moved = true; moved;) {
      moved = false;
      inertia = 0;
      std::vector<double> sum(centroids.size());
      std::vector<int> size(a.clusters);
      for (int i = 0; i < a.n; ++i) {
        const float* row = a.rows + size_t(i) * a.dim;
        double least = std::numeric_limits<double>::infinity();
        int j = 0;
        for (int x = 0; x < a.clusters; ++x) {
          const double d =
              SquaredDistance(row, centroids.data() + size_t(x) * a.dim, a.dim);
          if (d < least) least = d, j = x;
        }
        moved |= j != nearest[i];
        nearest[i] = j;
        inertia += least;
        ++size[j];
        for (int c = 0; c < a.dim; ++c) sum[size_t(j) * a.dim + c] += row[c];
      }
      for (size_t x = 0; x < sum.size(); ++x) {
        const int count = size[x / a.dim];
        if (count > 0) centroids[x] = static_cast<float>(sum[x] / count);
      }
    }
    best = std::min(best, inertia);
  }
  return best;
}

TEST(KMeans, LawsOverSizes) {
  for (int n : {0, 1, 5, 13, 16, 17, 100, 333}) {
    for (int dim : {1, 3, 64}) {
      const auto rows = RandomFloats(size_t(n) * dim, n + dim);
      for (int clusters : {1, 2, 12, 13, 50}) {
        for (int iterations : {0, 1, 5}) {
          for (int batch : {0, 1, 32}) {
            KMeansArgs args = Args(rows, dim, clusters);
            args.options.iterations = iterations;
            args.options.batch = batch;
            const KMeansResult r = KMeans(args, nullptr);
            ExpectLaws(args, r);
            EXPECT_EQ(r.clusters, std::min(n, clusters));
          }
        }
      }
    }
  }
}

TEST(KMeans, FindsWhatIsThere) {
  ForAllTargets([] {
    for (int blobs : {2, 13, 40}) {
      const auto rows = Blobs(blobs, 20, 64);
      for (int batch : {0, 100}) {
        KMeansArgs args = Args(rows, 64, blobs);
        args.options.batch = batch;
        const KMeansResult r = KMeans(args, nullptr);
        ASSERT_EQ(r.clusters, blobs);
        std::set<int> seen;
        for (int i = 0; i < args.n; ++i) {
          EXPECT_EQ(r.assignment[i], r.assignment[i % blobs]) << "row " << i;
          seen.insert(r.assignment[i]);
        }
        EXPECT_EQ(seen.size(), size_t(blobs));
      }
    }
  });
}

// Rows without any structure, where steps matter most: near plain k-means run
// to its end, as near as the table in kmeans.h says.
TEST(KMeans, AsLowAsPlainKMeans) {
  for (int clusters : {5, 30}) {
    const auto rows = RandomFloats(600 * 8, 4);
    KMeansArgs args = Args(rows, 8, clusters);
    const double naive = NaiveInertia(args);
    args.options.iterations = 20;
    EXPECT_LT(Inertia(args, KMeans(args, nullptr)), 1.02 * naive);
    args.options = KMeansOptions();
    EXPECT_LT(Inertia(args, KMeans(args, nullptr)), 1.1 * naive);
    args.options.batch = 128;
    args.options.iterations = 10;
    EXPECT_LT(Inertia(args, KMeans(args, nullptr)), 1.1 * naive);
  }
}

TEST(KMeans, StepsLowerTheInertia) {
  const auto rows = RandomFloats(500 * 16, 5);
  KMeansArgs args = Args(rows, 16, 40);
  double last = std::numeric_limits<double>::infinity();
  for (int iterations : {0, 1, 3, 9}) {
    args.options.iterations = iterations;
    const double inertia = Inertia(args, KMeans(args, nullptr));
    EXPECT_LT(inertia, last);
    last = inertia;
  }
}

TEST(KMeans, SeedsDecide) {
  const auto rows = RandomFloats(300 * 8, 6);
  KMeansArgs args = Args(rows, 8, 20);
  const KMeansResult one = KMeans(args, nullptr);
  ExpectEqual(one, KMeans(args, nullptr));
  args.options.seed = 8;
  EXPECT_NE(one.assignment, KMeans(args, nullptr).assignment);
}

TEST(KMeans, EqualOnTargetsThatFuse) {
  const auto rows = RandomFloats(700 * 64, 9);
  KMeansArgs args = Args(rows, 64, 50);
  const KMeansResult best = KMeans(args, nullptr);
  ForAllTargets([&] {
    const KMeansResult r = KMeans(args, nullptr);
    ExpectLaws(args, r);
    if (FusesMultiplyAdd()) ExpectEqual(r, best);
  });
}

TEST(KMeansThreadedTest, ThreadsDoNotChangeABit) {
  const auto rows = RandomFloats(1500 * 16, 10);
  for (int batch : {0, 400}) {
    KMeansArgs args = Args(rows, 16, 60);
    args.options.batch = batch;
    const KMeansResult alone = KMeans(args, nullptr);
    for (int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      ExpectEqual(alone, KMeans(args, &pool));
    }
  }
}

TEST(KMeans, EqualRowsAreOneCluster) {
  const std::vector<float> row = RandomFloats(7, 11, 100.0f);
  std::vector<float> rows;
  for (int i = 0; i < 101; ++i) rows.insert(rows.end(), row.begin(), row.end());
  const KMeansResult r = KMeans(Args(rows, 7, 10), nullptr);
  EXPECT_EQ(r.clusters, 1);
  EXPECT_EQ(r.centroids, row);  // to the last bit
}

TEST(KMeans, NoMoreClustersThanDifferentRows) {
  ForAllTargets([] {
    const std::vector<float> values = {0.1f, 0.3f, 7.7f, -5.2f};
    std::vector<float> rows;
    for (int i = 0; i < 60; ++i) rows.push_back(values[i % 4]);
    KMeansResult r = KMeans(Args(rows, 1, 20), nullptr);
    EXPECT_EQ(r.clusters, 4);
    for (int i = 0; i < 60; ++i) {
      EXPECT_EQ(r.centroids[r.assignment[i]], rows[i]);
    }
  });
}

// Two heaps so far apart that the distances within a heap are lost in the
// rounding of the scores: clusters that stay empty are filled from the
// farthest rows, by exact distances.
TEST(KMeans, EmptyClustersTakeTheFarthestRows) {
  ForAllTargets([] {
    std::vector<float> rows;
    for (int i = 0; i < 40; ++i) {
      const float heap = i % 2 == 0 ? -1e6f : 1e6f;
      rows.push_back(heap + (i < 12 ? 0.5f * static_cast<float>(i) : 0));
    }
    const KMeansArgs args = Args(rows, 1, 12);
    const KMeansResult r = KMeans(args, nullptr);
    ExpectLaws(args, r);
    EXPECT_EQ(r.clusters, 12);
  });
}

TEST(KMeans, OffsetDoesNotHideClusters) {
  auto rows = Blobs(6, 30, 32);
  for (float& x : rows) x = x / 32 + 3000;
  const KMeansResult r = KMeans(Args(rows, 32, 6), nullptr);
  ASSERT_EQ(r.clusters, 6);
  for (size_t i = 0; i < r.assignment.size(); ++i) {
    EXPECT_EQ(r.assignment[i], r.assignment[i % 6]);
  }
}

TEST(KMeans, FewRowsStayThemselves) {
  const auto rows = RandomFloats(5 * 6, 12);
  for (int clusters : {5, 6, 100}) {
    const KMeansResult r = KMeans(Args(rows, 6, clusters), nullptr);
    EXPECT_EQ(r.clusters, 5);
    EXPECT_EQ(r.assignment, (std::vector<int>{0, 1, 2, 3, 4}));
    EXPECT_EQ(r.centroids, rows);
  }
}

TEST(KMeans, RowsThatAreNoNumbersStayApart) {
  const auto clean = Blobs(3, 20, 4);
  for (float bad : {kNan, std::numeric_limits<float>::infinity(), 3e38f}) {
    auto rows = clean;
    rows[8 * 4 + 2] = bad;
    rows[33 * 4] = bad;
    const KMeansResult r = KMeans(Args(rows, 4, 4), nullptr);
    ASSERT_EQ(r.clusters, 4);
    for (int i = 0; i < 60; ++i) {
      const bool is_bad = i == 8 || i == 33;
      EXPECT_EQ(r.assignment[i], is_bad ? 3 : r.assignment[i % 3]);
    }
    for (int x = 0; x < 3 * 4; ++x) EXPECT_TRUE(std::isfinite(r.centroids[x]));
    EXPECT_TRUE(std::isnan(r.centroids[3 * 4]));
  }
}

TEST(KMeans, OneClusterOrNothingButNans) {
  const std::vector<float> rows = {1, kNan, 3, 5};
  const KMeansResult one = KMeans(Args(rows, 1, 1), nullptr);
  EXPECT_EQ(one.assignment, (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(one.centroids, std::vector<float>{3});
  const std::vector<float> nans(6, kNan);
  for (int clusters : {1, 2, 5}) {
    const KMeansResult r = KMeans(Args(nans, 1, clusters), nullptr);
    EXPECT_EQ(r.clusters, 1);
    EXPECT_EQ(r.assignment, std::vector<int>(6, 0));
    EXPECT_TRUE(std::isnan(r.centroids[0]));
  }
}

}  // namespace
}  // namespace pyramidkv
