#include "policy/value_norms.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "policy/select.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

TEST(ValueNormsTest, Lengths) {
  const std::vector<float> v = {3, 4, 0, 0, 1e30f, 0, kNan, 1};
  std::vector<float> norm(4, 7.0f);
  ValueNorms(v, 4, 2, norm);
  EXPECT_EQ(norm[0], 5);
  EXPECT_EQ(norm[1], 0);
  EXPECT_EQ(norm[2], 1e30f);
  EXPECT_TRUE(std::isnan(norm[3]));
}

// A random output projection in a file's type.
struct Projection {
  std::vector<std::byte> bytes;
  WeightMatrix matrix;
  std::vector<float> values;  // [rows, cols] as the type stores them

  Projection(ggml_type type, int rows, int cols, uint32_t seed) {
    const auto exact = RandomValues(size_t{1} * rows * cols, seed);
    const size_t row_bytes = ggml_row_size(type, cols);
    bytes.resize(row_bytes * rows);
    ggml_quantize_chunk(type, exact.data(), bytes.data(), 0, rows, cols,
                        nullptr);
    matrix = {bytes.data(), type, rows, cols, row_bytes};
    values.resize(exact.size());
    DequantizeRows(matrix, 0, rows, values.data());
  }
};

double NaiveNorm(const Projection& wo, const ProjectedValueArgs& args, int j) {
  double sum = 0;
  for (int g = 0; g < args.group; ++g) {
    const int first = (args.kv_head * args.group + g) * args.head_dim;
    for (int r = 0; r < wo.matrix.rows; ++r) {
      double dot = 0;
      for (int d = 0; d < args.head_dim; ++d) {
        dot += static_cast<double>(wo.values[r * wo.matrix.cols + first + d]) *
               args.v[j * args.head_dim + d];
      }
      sum += std::abs(dot) / args.group;
    }
  }
  return sum;
}

TEST(ProjectedValueNormsTest, EveryShapeAgainstPlainLoops) {
  // Type, KV heads, group, head size, embedding. In the fourth a slice starts
  // and ends inside a block of 32, in the last inside one of 256.
  const std::tuple<ggml_type, int, int, int, int> cases[] = {
      {GGML_TYPE_F32, 3, 2, 5, 131},
      {GGML_TYPE_F16, 2, 1, 16, 64},
      {GGML_TYPE_Q4_0, 3, 3, 64, 130},
      {GGML_TYPE_Q8_0, 4, 2, 12, 65},
      {GGML_TYPE_Q4_K, 4, 1, 64, 257}};
  uint32_t seed = 0;
  for (const auto& [type, kv_heads, group, head_dim, embedding] : cases) {
    SCOPED_TRACE(ggml_type_name(type));
    const Projection wo(type, embedding, kv_heads * group * head_dim, ++seed);
    for (int n : {0, 1, 63, 64, 65, 130}) {
      const auto v = RandomValues(n * head_dim, ++seed);
      for (int h = 0; h < kv_heads; ++h) {
        const ProjectedValueArgs args = {.output = wo.matrix,
                                         .kv_head = h,
                                         .group = group,
                                         .n = n,
                                         .head_dim = head_dim,
                                         .v = v};
        std::vector<float> norm(n, 7.0f);
        ProjectedValueNorms(args, norm);
        for (int j : {0, n / 2, n - 1}) {
          if (j < 0 || j >= n) continue;
          const double want = NaiveNorm(wo, args, j);
          EXPECT_NEAR(norm[j], want, 1e-5 * want) << "head " << h << ", " << j;
        }
      }
    }
  }
}

TEST(ProjectedValueNormsTest, NeighboursDoNotMatter) {
  const Projection wo(GGML_TYPE_F32, 70, 8, 1);
  const auto v = RandomValues(100 * 8, 2);
  ProjectedValueArgs args = {.output = wo.matrix,
                             .kv_head = 0,
                             .group = 1,
                             .n = 100,
                             .head_dim = 8,
                             .v = v};
  std::vector<float> all(100);
  ProjectedValueNorms(args, all);
  auto broken = v;
  broken[8 * 70] = kNan;
  args.v = std::span<const float>(broken).first(8 * 71);
  args.n = 71;
  std::vector<float> some(71);
  ProjectedValueNorms(args, some);
  EXPECT_TRUE(std::isnan(some[70]));
  for (int j = 0; j < 70; ++j) EXPECT_EQ(some[j], all[j]);
}

std::vector<float> Critical(const std::vector<float>& base,
                            const std::vector<float>& norm, int budget) {
  std::vector<float> out(base.size(), 7.0f);
  CriticalScores(base, norm, budget, out);
  return out;
}

// Half of what stays is the best by the first score, the other half the best
// of the rest by the product; so for every budget, from none to more than all.
TEST(CriticalScoresTest, TwoStages) {
  const int n = 23;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    auto base = seed % 2 == 0 ? RandomTies(n, seed) : RandomValues(n, seed);
    for (float& s : base) s = std::abs(s);
    auto norm = RandomValues(n, seed + 100);
    for (float& x : norm) x = std::abs(x);
    for (int budget = 0; budget <= n + 2; ++budget) {
      const auto out = Critical(base, norm, budget);
      const int first = std::min(n, budget / 2);
      const auto stage = SelectKept(CacheSpec{}, base, n, first);
      for (int j = 0; j < n; ++j) {
        if (std::binary_search(stage.begin(), stage.end(), j)) {
          EXPECT_EQ(out[j], kLargest);
        } else {
          EXPECT_FLOAT_EQ(out[j], (base[j] + 1e-4f) * norm[j]);
        }
      }
      const auto kept = SelectKept(CacheSpec{}, out, n, budget);
      EXPECT_EQ(kept.size(), static_cast<size_t>(std::min(n, budget)));
      EXPECT_TRUE(
          std::includes(kept.begin(), kept.end(), stage.begin(), stage.end()));
    }
  }
}

TEST(CriticalScoresTest, NoProductReachesTheMark) {
  const auto out = Critical({3, 1e30f, 2, kInfinity}, {1, 1e30f, 1e38f, 0}, 2);
  EXPECT_EQ(out[3], kLargest);
  for (int j = 0; j < 3; ++j) EXPECT_LT(out[j], kLargest);
  EXPECT_GT(out[1], 1e38f);
}

TEST(CriticalScoresTest, NanRanksLowest) {
  const auto out = Critical({kNan, 1, 0.5f, 0}, {1, 1, kNan, 0}, 2);
  EXPECT_EQ(out[0], -kInfinity);
  EXPECT_EQ(out[1], kLargest);
  EXPECT_EQ(out[2], -kInfinity);
  EXPECT_EQ(out[3], 0);
}

TEST(CriticalScoresTest, LargeNormsHelpNegativeScoresToo) {
  const auto out = Critical({-3, -1, -2, -2}, {1, 1, 1, 5}, 1);
  EXPECT_GT(out[3], out[2]);
  EXPECT_GT(out[1], out[2]);
  EXPECT_FLOAT_EQ(out[0], 1e-4f);
}

}  // namespace
}  // namespace pyramidkv
