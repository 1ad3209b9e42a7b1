// Attention to a cache from which entries have left.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/attention_decode.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 32;
constexpr int kGroup = 3;
constexpr float kScale = 0.2f;

// All query heads of a group over one head of the cache: [kGroup, kDim].
std::vector<float> Attend(const KvCache& cache, const std::vector<float>& q) {
  const HeadSegments segments = cache.head(0, 0).Segments();
  const DecodeQuery query = {kGroup, kScale, q.data()};
  std::vector<float> results(segments.parts() * DecodePartFloats(kGroup, kDim));
  std::vector<float> out(kGroup * kDim);
  AlignedBuffer<float> scratch;
  float* result = results.data();
  for (const Segment& segment : segments.all) {
    for (int p = 0; p < segment.parts(); ++p) {
      AttendDecodePart(segment, query, p, &scratch, result);
      result += DecodePartFloats(kGroup, kDim);
    }
  }
  MergeDecodeParts(results.data(), segments.parts(), kGroup, kDim, out.data());
  return out;
}

class KvCacheAttention : public testing::Test {
 protected:
  KvCacheAttention()
      : cache_(&pool_, {1, 1, {kDim, Codec::kF32, Codec::kF32}}),
        k_(RandomFloats(size_t{kEntries} * kDim, 1)),
        v_(RandomFloats(size_t{kEntries} * kDim, 2)),
        q_(RandomFloats(size_t{kGroup} * kDim, 3)) {
    EXPECT_TRUE(
        cache_.Append(0, 0, 0, kEntries, k_.data(), v_.data(), kDim).ok());
  }

  // Full attention with a bias that hides all entries but the kept ones.
  std::vector<float> Masked(const std::vector<int>& kept) const {
    std::vector<float> bias(kEntries, -1e9f), out(kGroup * kDim);
    for (int i : kept) bias[i] = 0;
    for (int g = 0; g < kGroup; ++g) {
      reference::Attend(q_.data() + g * kDim, k_.data(), v_.data(), 0, kEntries,
                        kDim, kScale, bias.data(), out.data() + g * kDim);
    }
    return out;
  }

  static constexpr int kEntries = 1500;
  PagePool pool_;
  KvCache cache_;
  std::vector<float> k_, v_, q_;
};

TEST_F(KvCacheAttention, IsFullAttentionWithTheOthersMasked) {
  std::mt19937 random(4);
  for (int keep : {1499, 700, 64, 3, 1}) {
    std::vector<int> all(kEntries), kept;
    std::iota(all.begin(), all.end(), 0);
    std::sample(all.begin(), all.end(), std::back_inserter(kept), keep, random);
    KvCache fork = cache_.Fork();
    ASSERT_TRUE(fork.Compact(0, 0, kept).ok());
    ExpectNear(Attend(fork, q_), Masked(kept), 1e-5f);
  }
}

TEST_F(KvCacheAttention, OrderOfEntriesDoesNotMatter) {
  std::vector<int> order(kEntries);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(5));
  KvCache permuted(&pool_, cache_.shape());
  for (int i = 0; i < kEntries; ++i) {
    ASSERT_TRUE(permuted
                    .Append(0, 0, i, 1, k_.data() + order[i] * kDim,
                            v_.data() + order[i] * kDim, kDim)
                    .ok());
  }
  ExpectNear(Attend(permuted, q_), Attend(cache_, q_), 1e-5f);
}

// Equal entries and one that stands for them are the same to attention.
TEST_F(KvCacheAttention, AMergedEntryStandsForItsMembers) {
  for (int i = 11; i < 18; ++i) {
    std::copy_n(k_.begin() + 10 * kDim, kDim, k_.begin() + i * kDim);
    std::copy_n(v_.begin() + 10 * kDim, kDim, v_.begin() + i * kDim);
  }
  KvCache eight(&pool_, cache_.shape());
  ASSERT_TRUE(eight.Append(0, 0, 0, kEntries, k_.data(), v_.data(), kDim).ok());
  const auto want = Attend(eight, q_);
  std::vector<int> kept;
  for (int i = 0; i < kEntries; ++i) {
    if (i < 10 || i >= 18) kept.push_back(i);
  }
  const MergedEntry merged = {
      14, 14, std::log(8.0f), 0, k_.data() + 10 * kDim, v_.data() + 10 * kDim};
  ASSERT_TRUE(eight.CompactAndMerge(0, 0, kept, {&merged, 1}).ok());
  EXPECT_EQ(eight.length(0, 0), kEntries - 7);
  ExpectNear(Attend(eight, q_), want, 1e-5f);
}

// Rows of K and V never part: with V = K they stay equal.
TEST_F(KvCacheAttention, KeysAndValuesStayPaired) {
  KvCache same(&pool_, cache_.shape());
  ASSERT_TRUE(same.Append(0, 0, 0, kEntries, k_.data(), k_.data(), kDim).ok());
  std::vector<int> kept;
  for (int i = 0; i < kEntries; i += 1 + i % 7) kept.push_back(i);
  ASSERT_TRUE(same.Compact(0, 0, kept).ok());
  std::vector<float> k(kept.size() * kDim), v(kept.size() * kDim);
  same.Decode(0, 0, k.data(), v.data());
  EXPECT_EQ(k, v);
  for (size_t i = 0; i < kept.size(); ++i) {
    ASSERT_TRUE(std::equal(k.begin() + i * kDim, k.begin() + (i + 1) * kDim,
                           k_.begin() + kept[i] * kDim));
  }
}

}  // namespace
}  // namespace pyramidkv
