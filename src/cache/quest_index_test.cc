#include "cache/quest_index.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

// Golden: pages of 4, 16 keys and a query of small eighths
// (tests/golden/vectors.md, G16).
TEST(QuestIndex, Golden) {
  const int dim = 4, keys = 16;
  const auto value = [](int t, int d, int s) {
    return static_cast<float>((37 * t + 11 * d + 7 * s) % 17 - 8) / 8;
  };
  std::vector<float> k, q;
  for (int t = 0; t < keys; ++t) {
    for (int d = 0; d < dim; ++d) k.push_back(value(t, d, 1));
  }
  for (int d = 0; d < dim; ++d) q.push_back(2 * value(15, d, 2));
  ASSERT_EQ(q, (std::vector<float>{0, -1.5f, 1.25f, -0.25f}));
  QuestIndex index(dim, 4);
  index.Append(k.data(), keys, dim);
  ASSERT_EQ(index.pages(), 4);
  std::vector<float> bounds(4), scratch;
  index.Score(q.data(), 1, &scratch, bounds.data());
  EXPECT_EQ(bounds, (std::vector<float>{2.46875f, 2.59375f, 2.15625f, 2.125f}));
}

TEST(QuestIndex, IsAnUpperBound) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int dim = 80, keys = 777, group = 3;
  std::vector<float> k(size_t(keys) * dim), q(size_t(group) * dim);
  for (float& v : k) v = normal(random);
  for (float& v : q) v = normal(random);
  QuestIndex index(dim);
  index.Append(k.data(), keys, dim);
  std::vector<float> best(size_t(group) * index.blocks()), scratch;
  index.Score(q.data(), group, &scratch, best.data());
  for (int g = 0; g < group; ++g) {
    for (int e = 0; e < keys; ++e) {
      double dot = 0;
      for (int c = 0; c < dim; ++c) {
        dot += double{q[g * dim + c]} * k[size_t(e) * dim + c];
      }
      EXPECT_GE(best[g * index.blocks() + e / kBlockEntries], dot - 1e-4);
    }
  }
}

}  // namespace
}  // namespace pyramidkv
