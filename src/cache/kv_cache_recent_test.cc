// Quantised entries of a cache: sinks and recent ones are finer, what they
// take, and that moving them costs nothing.

#include <algorithm>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/testing/random_sample.h"
#include "gtest/gtest.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 64;
constexpr int kEntries = 4096;

class RecentEntries : public testing::TestWithParam<HeadFormat> {
 protected:
  RecentEntries()
      : k_(RandomFloats(size_t{kEntries} * kDim, 1)),
        v_(RandomFloats(size_t{kEntries} * kDim, 2)),
        cache_(&pool_, {1, 1, GetParam()}) {
    EXPECT_TRUE(
        cache_.Append(0, 0, 0, kEntries, k_.data(), v_.data(), kDim).ok());
  }

  // K, then V.
  std::vector<float> Decoded() const {
    const size_t n = size_t(cache_.length(0, 0)) * kDim;
    std::vector<float> both(2 * n);
    cache_.Decode(0, 0, both.data(), both.data() + n);
    return both;
  }

  // Bytes of pages that hold entries a second time.
  int64_t Overlays() const {
    const auto all = static_cast<size_t>(kPageEntries);
    const size_t own = (cache_.length(0, 0) + all - 1) / all;
    int64_t bytes = -static_cast<int64_t>(own * GetParam().page_bytes());
    cache_.head(0, 0).ForEachPage([&](std::span<const std::byte> page) {
      bytes += static_cast<int64_t>(page.size());
    });
    return bytes;
  }

  PagePool pool_;
  std::vector<float> k_, v_;
  KvCache cache_;
};

TEST_P(RecentEntries, FirstAndNewestAreHalves) {
  const auto all = Decoded();
  const int recent = GetParam().recent_positions();
  for (int i = 0; i < kEntries; ++i) {
    bool halves = true;
    for (int c = 0; c < kDim; ++c) {
      const size_t at = size_t(i) * kDim + c;
      halves = halves && all[at] == F32FromF16(F16FromF32(k_[at])) &&
               all[k_.size() + at] == F32FromF16(F16FromF32(v_[at]));
    }
    EXPECT_EQ(halves, i < kSinkPositions || i >= kEntries - recent) << i;
  }
}

// No entry is rounded a second time, whatever moves.
TEST_P(RecentEntries, AHundredCompactionsChangeNoBit) {
  std::vector<float> want = Decoded();
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    const int n = cache_.length(0, 0);
    const std::vector<int> kept = RandomSample(n, n * 98 / 100, &random);
    std::vector<float> left;
    for (size_t half : {size_t{0}, size_t(n) * kDim}) {
      for (int i : kept) {
        const auto row = want.begin() + half + size_t(i) * kDim;
        left.insert(left.end(), row, row + kDim);
      }
    }
    ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
    ASSERT_EQ(Decoded(), left) << "compaction " << round;
    want = std::move(left);
  }
  EXPECT_LT(cache_.length(0, 0), kEntries / 6);
}

// Positions and scales included; overlays do not grow.
TEST_P(RecentEntries, BytesAreWithinTheLimits) {
  std::vector<int> kept(kEntries);
  std::iota(kept.begin(), kept.end(), 0);
  kept.erase(kept.begin() + kEntries / 2);  // so positions are stored
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  ASSERT_NE(cache_.View(0, 0).positions, nullptr);
  const int64_t fine = Overlays();
  EXPECT_LE(fine, GetParam().overlay_bytes());
  const double f16 = 2.0 * 2 * kDim * kEntries;
  const double limit = GetParam().k == Codec::kInt8 ? 0.55 : 0.34;
  EXPECT_LE(static_cast<double>(cache_.bytes() - fine), limit * f16);
}

TEST_P(RecentEntries, LeavePagesWhenTheyLeave) {
  std::vector<int> kept(kSinkPositions + 1);
  std::iota(kept.begin(), kept.end(), 0);
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  EXPECT_EQ(cache_.length(0, 0), kSinkPositions + 1);
  const HeadFormat& f = GetParam();
  EXPECT_EQ(cache_.bytes(), f.stored_page_bytes());
  ASSERT_TRUE(cache_.Compact(0, 0, {}).ok());
  EXPECT_EQ(cache_.bytes(), 0);
  EXPECT_EQ(pool_.live_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, RecentEntries,
    testing::Values(HeadFormat{{kDim, Codec::kInt8, Codec::kInt8}},
                    HeadFormat{{kDim, Codec::kInt4, Codec::kInt4}},
                    HeadFormat{{kDim, Codec::kInt4, Codec::kInt2}}));

}  // namespace
}  // namespace pyramidkv
