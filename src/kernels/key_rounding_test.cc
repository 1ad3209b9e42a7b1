#include "kernels/key_rounding.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/kv_codec.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kRows = 200;
constexpr int kGroup = 3;
constexpr int kQueries = 32;

// Keys with a mean; queries that are larger in some channels.
struct Rows {
  explicit Rows(int head_dim)
      : head_dim(head_dim),
        k(RandomFloats(size_t{kRows} * head_dim, 1)),
        q(RandomFloats(size_t{kQueries} * kGroup * head_dim, 2)) {
    const auto means = RandomFloats(head_dim, 3, 3.0f);
    const auto sizes = RandomFloats(head_dim, 4);
    for (size_t i = 0; i < k.size(); ++i) k[i] += means[i % head_dim];
    for (size_t i = 0; i < q.size(); ++i) q[i] *= std::exp(sizes[i % head_dim]);
  }
  std::vector<float> Fit() const {
    return FitKeyRounding(head_dim, kRows, k.data(), kQueries, kGroup,
                          size_t{kGroup} * head_dim, q.data());
  }
  // The error of products of all queries with all stored keys.
  double Error(Codec codec, const float* rounding) const {
    const PageFormat format = {head_dim, codec, codec};
    std::vector<std::byte> page(format.page_bytes());
    std::vector<float> got(head_dim);
    double sum = 0;
    for (int r = 0; r < kRows; ++r) {
      const float* const row = &k[size_t(r) * head_dim];
      StoreEntry(format, page.data(), 0, row, row, {rounding});
      LoadEntry(format, page.data(), 0, got.data(), nullptr, rounding);
      for (int i = 0; i < head_dim; ++i) got[i] -= row[i];
      for (int i = 0; i < kQueries * kGroup; ++i) {
        const double off = std::inner_product(
            got.begin(), got.end(), q.begin() + size_t(i) * head_dim, 0.0);
        sum += off * off;
      }
    }
    return sum;
  }
  int head_dim;
  std::vector<float> k, q;
};

// By hand: means, and weights 3 and 1 of two channels as a Hadamard matrix
// mixes them, (3 + 1) / 4 and (3 - 1) / 4; the others weigh the least, 1 / 20
// of the mean weight of 1 / 2.
TEST(KeyRounding, IsMeansAndMixedWeights) {
  std::vector<float> k(16, 0.0f), q(16, 0.0f);
  k[0] = 3, k[8] = 1;   // two rows
  q[0] = 3, q[8] = -3;  // sizes: 3
  q[1] = -1, q[9] = 1;  // 1
  const auto rounding = FitKeyRounding(8, 2, k.data(), 2, 1, 8, q.data());
  ASSERT_EQ(rounding.size(), 16u);
  EXPECT_EQ(rounding[0], 2);
  for (int i = 1; i < 8; ++i) EXPECT_EQ(rounding[i], 0);
  const double least = 0.05 * 0.5, sum = 4 + 6 * least;
  EXPECT_NEAR(rounding[8], 1, 1e-6);
  EXPECT_NEAR(rounding[9], (2 + 0 * least) / sum, 1e-6);
  EXPECT_NEAR(rounding[10], (4 - 2 * least) / sum, 1e-6);
  EXPECT_TRUE(IsKeyRounding(rounding, 8));
}

TEST(KeyRounding, TakesErrorsOffProducts) {
  for (int head_dim : {8, 24, 64, 80, 96, 128}) {
    const Rows rows(head_dim);
    const auto rounding = rows.Fit();
    auto means = rounding;  // and weights that are all the same
    std::fill(means.begin() + head_dim, means.end(), 0.0f);
    for (int i = 0; i < head_dim; ++i) {
      if (i % (head_dim & -head_dim) % 64 == 0) means[head_dim + i] = 1;
    }
    const double plain = rows.Error(Codec::kInt4, nullptr);
    const double centred = rows.Error(Codec::kInt4, means.data());
    EXPECT_LT(centred, 0.5 * plain) << head_dim;
    EXPECT_LT(rows.Error(Codec::kInt4, rounding.data()), 0.9 * centred)
        << head_dim;
    EXPECT_LT(rows.Error(Codec::kInt8, rounding.data()),
              0.5 * rows.Error(Codec::kInt8, nullptr))
        << head_dim;
  }
}

// Equal weights in all channels change no code.
TEST(KeyRounding, EqualWeightsRoundToNearest) {
  const Rows rows(64);
  std::vector<float> same(128, 0.0f);
  same[64] = 1;
  const PageFormat format = {64, Codec::kInt4, Codec::kInt4};
  std::vector<std::byte> a(format.page_bytes()), b(format.page_bytes());
  for (int r = 0; r < kPageEntries; ++r) {
    const float* const row = &rows.k[size_t(r) * 64];
    StoreEntry(format, a.data(), r, row, row);
    StoreEntry(format, b.data(), r, row, row, {same.data()});
  }
  EXPECT_EQ(a, b);
}

TEST(KeyRounding, SurvivesWhatIsNotFinite) {
  Rows rows(64);
  const auto good = rows.Fit();
  rows.k[0] = std::numeric_limits<float>::infinity();
  rows.k[70] = std::nanf("");
  rows.q[1] = std::nanf("");
  EXPECT_TRUE(IsKeyRounding(rows.Fit(), 64));
  const PageFormat format = {64, Codec::kInt4, Codec::kInt4};
  std::vector<std::byte> page(format.page_bytes());
  std::vector<float> k(64);
  StoreEntry(format, page.data(), 0, rows.k.data(), k.data(), {good.data()});
  LoadEntry(format, page.data(), 0, k.data(), nullptr, good.data());
  for (float x : k) EXPECT_TRUE(std::isfinite(x));
  StoreEntry(format, page.data(), 1, &rows.k[64], k.data(), {good.data()});
  LoadEntry(format, page.data(), 1, k.data(), nullptr, good.data());
  EXPECT_TRUE(std::isnan(k[6]));
}

TEST(KeyRounding, KnowsWhatIsNone) {
  std::vector<float> rounding(128, 0.0f);
  EXPECT_FALSE(IsKeyRounding(rounding, 64));  // no weight
  rounding[64] = 1;
  EXPECT_TRUE(IsKeyRounding(rounding, 64));
  EXPECT_FALSE(IsKeyRounding(rounding, 32));
  for (float bad : {1.1f, -1.1f, std::nanf("")}) {
    rounding[70] = bad;
    EXPECT_FALSE(IsKeyRounding(rounding, 64)) << bad;
  }
  rounding[70] = 1;
  EXPECT_TRUE(IsKeyRounding(rounding, 64));
  rounding[3] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(IsKeyRounding(rounding, 64));
}

}  // namespace
}  // namespace pyramidkv
