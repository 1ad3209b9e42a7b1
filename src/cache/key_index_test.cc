#include "cache/key_index.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cache/skew.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// Keys about a common mean, as those of real heads are.
std::vector<float> Keys(int count, int head_dim, uint32_t seed) {
  std::vector<float> k = Random(size_t(count) * head_dim, seed);
  const std::vector<float> mean = Random(head_dim, 99);
  for (size_t i = 0; i < k.size(); ++i) k[i] += 2 * mean[i % head_dim];
  return k;
}

class KeyIndexTest : public testing::TestWithParam<IndexKind> {
 protected:
  std::unique_ptr<KeyIndex> Make(int head_dim) {
    KeyIndexOptions options;
    options.kind = GetParam();
    options.head_dim = head_dim;
    // Queries and keys of these tests have no direction that matters more.
    options.partial = 0.5;
    skew_.assign(size_t(head_dim) * head_dim, 0.0f);
    if (GetParam() == IndexKind::kSkew) {
      const auto q = Random(size_t(3) * head_dim, 2);
      const auto k = Keys(300, head_dim, 1);
      ComputeSkew(q.data(), 3, k.data(), 300, head_dim, skew_.data());
    }
    options.skew = skew_.data();
    return MakeKeyIndex(options);
  }
  static std::vector<float> Scores(const KeyIndex& index,
                                   const std::vector<float>& q, int group) {
    std::vector<float> scratch;
    std::vector<float> best(size_t(group) * index.blocks());
    index.Score(q.data(), group, &scratch, best.data());
    return best;
  }

  std::vector<float> skew_;
};

constexpr int kHeadDims[] = {64, 80, 96, 128, 256};

// One key in each of some blocks is much like the query.
TEST_P(KeyIndexTest, FindsNeedles) {
  for (int head_dim : kHeadDims) {
    SCOPED_TRACE(head_dim);
    const int count = 1000;
    std::vector<float> k = Keys(count, head_dim, 1);
    const std::vector<float> q = Random(size_t(3) * head_dim, 2);
    for (int g = 0; g < 3; ++g) {
      for (int entry : {37 + g, 400 + 32 * g, 999 - 16 * g}) {
        for (int c = 0; c < head_dim; ++c) {
          k[size_t(entry) * head_dim + c] += 4 * q[size_t(g) * head_dim + c];
        }
      }
    }
    const auto index = Make(head_dim);
    index->Append(k.data(), count, head_dim);
    ASSERT_EQ(index->blocks(), 63);
    const std::vector<float> best = Scores(*index, q, 3);
    for (int g = 0; g < 3; ++g) {
      std::vector<int> order(index->blocks());
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int a, int b) {
        return best[g * 63 + a] > best[g * 63 + b];
      });
      std::sort(order.begin(), order.begin() + 3);
      EXPECT_EQ(order[0], (37 + g) / kBlockEntries);
      EXPECT_EQ(order[1], (400 + 32 * g) / kBlockEntries);
      EXPECT_EQ(order[2], (999 - 16 * g) / kBlockEntries);
    }
  }
}

TEST_P(KeyIndexTest, PiecesEqualTheWholeAfterTheFirst) {
  const int head_dim = 80, first = 101, count = 700;
  const std::vector<float> k = Keys(count, head_dim, 3);
  const std::vector<float> q = Random(size_t(5) * head_dim, 4);
  const auto whole = Make(head_dim), pieces = Make(head_dim);
  for (const auto* index : {&whole, &pieces}) {
    (*index)->Append(k.data(), 0, head_dim);
    (*index)->Append(k.data(), first, head_dim);
  }
  whole->Append(k.data() + first * head_dim, count - first, head_dim);
  std::mt19937 random(5);
  for (int at = first; at < count;) {
    const int n = std::min(count - at, static_cast<int>(random() % 40));
    pieces->Append(k.data() + size_t(at) * head_dim, n, head_dim);
    at += n;
    ASSERT_EQ(pieces->length(), at);
    // Never a block that is better than its entries are.
    Scores(*pieces, q, 5);
  }
  EXPECT_EQ(Scores(*whole, q, 5), Scores(*pieces, q, 5));
}

// A block's worth does not depend on later ones, nor a query's result on
// those beside it.
TEST_P(KeyIndexTest, BlocksAndQueriesAreIndependent) {
  const int head_dim = 64, count = 333;
  const std::vector<float> k = Keys(count + 500, head_dim, 6);
  const std::vector<float> q = Random(size_t(7) * head_dim, 7);
  const auto index = Make(head_dim);
  index->Append(k.data(), count, head_dim);
  const std::vector<float> before = Scores(*index, q, 7);
  const int blocks = index->blocks();
  for (int g = 0; g < 7; ++g) {
    const std::vector<float> one(q.begin() + g * head_dim,
                                 q.begin() + (g + 1) * head_dim);
    const std::vector<float> alone = Scores(*index, one, 1);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           before.begin() + size_t(g) * blocks));
  }
  index->Append(k.data() + size_t(count) * head_dim, 500, head_dim);
  const std::vector<float> after = Scores(*index, q, 7);
  for (int g = 0; g < 7; ++g) {
    for (int b = 0; b + 1 < blocks; ++b) {
      EXPECT_EQ(after[g * index->blocks() + b], before[g * blocks + b]);
    }
  }
}

TEST_P(KeyIndexTest, RowsMayBeApart) {
  const int head_dim = 64, count = 50;
  const std::vector<float> k = Keys(count, head_dim, 8);
  std::vector<float> apart(size_t(count) * 3 * head_dim, 1e9f);
  for (int e = 0; e < count; ++e) {
    std::copy_n(k.data() + e * head_dim, head_dim,
                apart.data() + size_t(e) * 3 * head_dim);
  }
  const std::vector<float> q = Random(head_dim, 9);
  const auto a = Make(head_dim), b = Make(head_dim);
  a->Append(k.data(), count, head_dim);
  b->Append(apart.data(), count, 3 * head_dim);
  EXPECT_EQ(Scores(*a, q, 1), Scores(*b, q, 1));
}

// Blocks that the estimate ranks highly are those that are worth most.
TEST_P(KeyIndexTest, EstimatesFollowTheProducts) {
  const int head_dim = 64, count = 4096;
  const std::vector<float> k = Keys(count, head_dim, 10);
  const std::vector<float> q = Random(head_dim, 11);
  const auto index = Make(head_dim);
  index->Append(k.data(), count, head_dim);
  const std::vector<float> best = Scores(*index, q, 1);
  std::vector<double> exact(best.size(), -1e30);
  for (int e = 0; e < count; ++e) {
    double dot = 0;
    for (int c = 0; c < head_dim; ++c) {
      dot += double{q[c]} * k[size_t(e) * head_dim + c];
    }
    exact[e / kBlockEntries] = std::max(exact[e / kBlockEntries], dot);
  }
  const auto n = static_cast<double>(best.size());
  double a = 0, b = 0, ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < best.size(); ++i) {
    a += best[i] / n;
    b += exact[i] / n;
  }
  for (size_t i = 0; i < best.size(); ++i) {
    ab += (best[i] - a) * (exact[i] - b);
    aa += (best[i] - a) * (best[i] - a);
    bb += (exact[i] - b) * (exact[i] - b);
  }
  // Independent channels: bounds and clusters have nothing to hold on to.
  const bool of_entries =
      GetParam() == IndexKind::kSign || GetParam() == IndexKind::kSkew;
  EXPECT_GT(ab / std::sqrt(aa * bb), of_entries ? 0.4 : 0.2);
}

// Bytes per entry, as the headers say, and nothing of note beside them.
TEST(KeyIndexBytes, AreAsStated) {
  const int head_dim = 64, count = 4096;
  const std::vector<float> k = Keys(count, head_dim, 12);
  const std::vector<float> skew(size_t(head_dim) * head_dim, 0.1f);
  const auto bytes = [&](IndexKind kind) {
    KeyIndexOptions options;
    options.kind = kind;
    options.head_dim = head_dim;
    options.skew = skew.data();
    const auto index = MakeKeyIndex(options);
    index->Append(k.data(), count, head_dim);
    return double(index->bytes()) / count;
  };
  EXPECT_NEAR(bytes(IndexKind::kSign), 10, 0.2);
  EXPECT_NEAR(bytes(IndexKind::kSkew), 12, 0.2);
  EXPECT_NEAR(bytes(IndexKind::kQuest), 16, 0.2);
  EXPECT_NEAR(bytes(IndexKind::kCluster), 10, 0.4);
}

INSTANTIATE_TEST_SUITE_P(Kinds, KeyIndexTest,
                         testing::Values(IndexKind::kSign, IndexKind::kSkew,
                                         IndexKind::kQuest,
                                         IndexKind::kCluster));

}  // namespace
}  // namespace pyramidkv
