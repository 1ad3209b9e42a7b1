#include "cache/key_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cache/key_index.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 16;

std::vector<float> RandomKeys(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> k(size_t(count) * kHeadDim);
  for (float& x : k) x = normal(random);
  return k;
}

TEST(OrderByLikeness, IsAPermutation) {
  for (int count : {0, 1, 15, 16, 17, 31, 32, 33, 100, 1000}) {
    auto order =
        OrderByLikeness(RandomKeys(count, count).data(), count, kHeadDim);
    std::sort(order.begin(), order.end());
    std::vector<int> all(count);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(order, all);
  }
}

// Sixteen tight bunches, mixed up: each becomes a block.
TEST(OrderByLikeness, BunchesBecomeBlocks) {
  constexpr int kBunches = 16;
  constexpr int kCount = kBunches * kBlockEntries;
  const std::vector<float> centres = RandomKeys(kBunches, 1);
  std::vector<float> k = RandomKeys(kCount, 2);
  for (int i = 0; i < kCount; ++i) {
    for (int c = 0; c < kHeadDim; ++c) {
      float& x = k[i * kHeadDim + c];
      x = 0.01f * x + centres[i % kBunches * kHeadDim + c];
    }
  }
  const auto order = OrderByLikeness(k.data(), kCount, kHeadDim);
  int whole = 0;
  for (int b = 0; b < kBunches; ++b) {
    const int* block = order.data() + b * kBlockEntries;
    whole += std::all_of(block, block + kBlockEntries, [&](int i) {
      return i % kBunches == block[0] % kBunches;
    });
  }
  EXPECT_GE(whole, kBunches - 2);
}

TEST(OrderByLikeness, EqualAndBrokenKeysKeepTheirOrder) {
  constexpr int kCount = 100;
  std::vector<int> as_is(kCount);
  std::iota(as_is.begin(), as_is.end(), 0);
  const std::vector<float> same(kCount * kHeadDim, 1.0f);
  EXPECT_EQ(OrderByLikeness(same.data(), kCount, kHeadDim), as_is);
  const std::vector<float> broken(kCount * kHeadDim, NAN);
  EXPECT_EQ(OrderByLikeness(broken.data(), kCount, kHeadDim), as_is);
}

}  // namespace
}  // namespace pyramidkv
