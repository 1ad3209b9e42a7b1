// A layer made so that the blocks which a query attends to are known: keys of
// a block are about one subject, queries ask for one, and both have noise that
// the other side does not see.

#include <cmath>
#include <random>
#include <set>
#include <vector>

#include "cache/cold_tier.h"
#include "cache/skew.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 64;
constexpr int kSubjects = 6;
constexpr int kSeen = 8;  // directions that queries have
constexpr int kBlocks = 60;
constexpr float kLength = 4;

class ConstructedLayer : public testing::Test {
 protected:
  ConstructedLayer() {
    // Gram and Schmidt.
    for (int i = 0; i < kDim; ++i) {
      std::vector<double> row(kDim);
      for (double& x : row) x = normal_(random_);
      for (int pass = 0; pass < 2; ++pass) {
        for (const auto& other : basis_) {
          double dot = 0;
          for (int c = 0; c < kDim; ++c) dot += row[c] * other[c];
          for (int c = 0; c < kDim; ++c) row[c] -= dot * other[c];
        }
      }
      double square = 0;
      for (const double x : row) square += x * x;
      for (double& x : row) x /= std::sqrt(square);
      basis_.push_back(std::move(row));
    }
  }

  // A subject's row, with noise in directions [from, to).
  void Add(int subject, int from, int to, double noise, std::vector<float>* x) {
    std::vector<double> row(kDim);
    for (int c = 0; c < kDim; ++c) row[c] = kLength * basis_[subject][c];
    for (int i = from; i < to; ++i) {
      const double size = noise * normal_(random_);
      for (int c = 0; c < kDim; ++c) row[c] += size * basis_[i][c];
    }
    x->insert(x->end(), row.begin(), row.end());
  }
  std::vector<float> Query(int subject) {
    std::vector<float> q;
    Add(subject, 0, kSeen, 0.1, &q);
    return q;
  }
  // unseen: noise where no query points.
  std::vector<float> Keys(double unseen) {
    std::vector<float> k;
    for (int e = 0; e < kBlocks * kBlockEntries; ++e) {
      Add(e / kBlockEntries % kSubjects, kSeen, kDim, unseen, &k);
    }
    return k;
  }

  // Blocks that a tier selects for a subject: values name them.
  std::set<int> Selected(ColdTier* tier, const PageFormat& format,
                         int subject) {
    const std::vector<float> q = Query(subject);
    tier->Select(0, 0, q.data(), 1, 1);
    ColdView view;
    std::set<int> blocks;
    do {
      EXPECT_TRUE(tier->Fetch(0, 0, &view).ok());
      std::vector<float> v(kDim);
      for (const std::byte* page : view.pages) {
        LoadEntry(format, page, 0, nullptr, v.data());
        blocks.insert(static_cast<int>(v[0]));
      }
    } while (!view.last());
    return blocks;
  }

  int Right(IndexKind index, const std::vector<float>& k, const float* skew) {
    ColdTierOptions options;
    options.layers = options.kv_heads = 1;
    options.format.head_dim = kDim;
    options.format.entries = kBlockEntries;
    options.index = index;
    options.partial = 0.25;
    options.skew = skew;
    options.alpha = kLength * kLength / 2;
    options.fetch = 1;
    options.resident = 0.1;
    const auto tier = ColdTier::Create(options);
    EXPECT_TRUE(tier.ok());
    std::vector<float> v(k.size());
    for (size_t i = 0; i < v.size(); ++i) {
      const size_t block = i / kDim / kBlockEntries;
      v[i] = static_cast<float>(block);
    }
    const std::vector<int32_t> positions(k.size() / kDim);
    EXPECT_TRUE((*tier)
                    ->Append(0, 0, static_cast<int>(positions.size()), k.data(),
                             v.data(), kDim, positions.data())
                    .ok());
    int right = 0;
    for (int s = 0; s < kSubjects; ++s) {
      std::set<int> want;
      for (int b = s; b < kBlocks; b += kSubjects) want.insert(b);
      right += Selected(tier->get(), options.format, s) == want ? 1 : 0;
    }
    return right;
  }

  std::mt19937 random_{3};
  std::normal_distribution<double> normal_;
  std::vector<std::vector<double>> basis_;
};

TEST_F(ConstructedLayer, IndexesSelectTheBlocksOfTheSubject) {
  const std::vector<float> k = Keys(0.3);
  std::vector<float> q, skew(size_t{kDim} * kDim);
  for (int i = 0; i < 300; ++i) {
    const std::vector<float> row = Query(i % kSubjects);
    q.insert(q.end(), row.begin(), row.end());
  }
  ComputeSkew(q.data(), 300, k.data(), 500, kDim, skew.data());
  EXPECT_EQ(Right(IndexKind::kSkew, k, skew.data()), kSubjects);
  EXPECT_GE(Right(IndexKind::kSign, k, nullptr), kSubjects - 1);
}

// Measured queries tell what signs do not know: five sixths of each key are
// noise that no query sees.
TEST_F(ConstructedLayer, ASkewLooksPastWhatNoQuerySees) {
  const std::vector<float> k = Keys(2.5);
  std::vector<float> q, skew(size_t{kDim} * kDim);
  for (int i = 0; i < 300; ++i) {
    const std::vector<float> row = Query(i % kSubjects);
    q.insert(q.end(), row.begin(), row.end());
  }
  ComputeSkew(q.data(), 300, k.data(), 500, kDim, skew.data());
  EXPECT_EQ(Right(IndexKind::kSkew, k, skew.data()), kSubjects);
  EXPECT_LT(Right(IndexKind::kSign, k, nullptr), kSubjects);
}

}  // namespace
}  // namespace pyramidkv
