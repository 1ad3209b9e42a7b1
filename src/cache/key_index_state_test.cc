// Indexes that are stored and go on: what they say is the same to the bit.

#include "cache/key_index_state.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "cache/key_index.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr IndexKind kKinds[] = {IndexKind::kSign, IndexKind::kSkew,
                                IndexKind::kQuest, IndexKind::kCluster};

std::vector<float> RandomFloats(size_t count, std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& x : values) x = normal(*random);
  return values;
}

class IndexState : public ::testing::TestWithParam<IndexKind> {
 protected:
  std::unique_ptr<KeyIndex> Make(int head_dim) {
    skew_.assign(size_t(head_dim) * head_dim, 0.0F);
    for (int i = 0; i < head_dim; ++i) skew_[i * head_dim + i] = 1;
    KeyIndexOptions options;
    options.kind = GetParam();
    options.head_dim = head_dim;
    options.partial = 0.5;
    options.skew = skew_.data();
    return MakeKeyIndex(options);
  }
  void Append(int count, int head_dim, std::vector<KeyIndex*> indexes) {
    const size_t stride = head_dim + 5;
    const auto k = RandomFloats(count * stride, &random_);
    for (KeyIndex* index : indexes) index->Append(k.data(), count, stride);
  }
  // q: three queries.
  static std::vector<float> Scores(const KeyIndex& index,
                                   const std::vector<float>& q) {
    std::vector<float> scratch, best(3 * size_t(index.blocks()));
    index.Score(q.data(), 3, &scratch, best.data());
    return best;
  }

  std::mt19937 random_{1};
  std::vector<float> skew_;
};

TEST_P(IndexState, GoesOnToTheBit) {
  for (const int head_dim : {8, 64, 128}) {
    for (const int first : {0, 1, 15, 16, 63, 64, 65, 700}) {
      SCOPED_TRACE(testing::Message() << head_dim << " " << first);
      const auto index = Make(head_dim), loaded = Make(head_dim);
      if (first > 0) Append(first, head_dim, {index.get()});
      if (first > 1) Append(3, head_dim, {index.get()});
      ASSERT_TRUE(loaded->Import(index->Export()));
      ASSERT_EQ(loaded->length(), index->length());
      EXPECT_LE(loaded->bytes(), index->bytes());
      for (const int more : {0, 1, 20, 90}) {
        if (more > 0) Append(more, head_dim, {index.get(), loaded.get()});
        EXPECT_TRUE(loaded->Export() == index->Export()) << more;
        const auto q = RandomFloats(size_t(3) * head_dim, &random_);
        EXPECT_EQ(Scores(*loaded, q), Scores(*index, q)) << more;
      }
    }
  }
}

TEST_P(IndexState, WhatCannotBeIsRefused) {
  const auto index = Make(64);
  Append(100, 64, {index.get()});
  const KeyIndexState sound = index->Export();
  const auto refused = [&](auto change) {
    KeyIndexState state = sound;
    change(&state);
    if (state == sound) return true;  // this kind has no such thing
    const auto fresh = Make(64);
    return !fresh->Import(std::move(state)) && fresh->length() == 0;
  };
  using State = KeyIndexState*;
  EXPECT_TRUE(refused([](State s) { s->length = -1; }));
  EXPECT_TRUE(refused([](State s) { s->length = 0; }));
  EXPECT_TRUE(refused([](State s) { s->length = 1 << 30; }));
  EXPECT_TRUE(refused([](State s) { s->codes.pop_back(); }));
  EXPECT_TRUE(refused([](State s) { s->codes.emplace_back(); }));
  EXPECT_TRUE(refused([](State s) { s->codes.clear(); }));
  EXPECT_TRUE(refused([](State s) {
    if (!s->mean.empty()) s->mean.pop_back();
  }));
  EXPECT_TRUE(refused([](State s) { s->clusters.resize(99); }) ||
              GetParam() != IndexKind::kCluster);
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_TRUE(refused([&](State s) {
      if (!s->mean.empty()) s->mean[3] = bad;
    }));
    EXPECT_TRUE(refused([&](State s) {
      if (!s->inverse_norms.empty()) s->inverse_norms[3] = bad;
    }));
  }
  EXPECT_TRUE(refused([](State s) {
    if (!s->clusters.empty()) s->clusters[7] = 60000;
  }));
  EXPECT_TRUE(refused([](State s) { s->inverse_norms.clear(); }));
}

INSTANTIATE_TEST_SUITE_P(All, IndexState, ::testing::ValuesIn(kKinds));

}  // namespace
}  // namespace pyramidkv
