// Quantised entries of a cache: which ones are finer, what they take, and that
// moving them costs nothing.

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 64;
constexpr int kEntries = 4096;

class FineEntries : public testing::TestWithParam<PageFormat> {
 protected:
  FineEntries()
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

  PagePool pool_;
  std::vector<float> k_, v_;
  KvCache cache_;
};

TEST_P(FineEntries, FirstAndNewestAreHalves) {
  const auto all = Decoded();
  const int recent = FineRecent(GetParam());
  for (int i = 0; i < kEntries; ++i) {
    bool halves = true;
    for (int c = 0; c < kDim; ++c) {
      const size_t at = size_t(i) * kDim + c;
      halves = halves && all[at] == F32FromF16(F16FromF32(k_[at])) &&
               all[k_.size() + at] == F32FromF16(F16FromF32(v_[at]));
    }
    EXPECT_EQ(halves, i < kFinePositions || i >= kEntries - recent) << i;
  }
}

// No entry is rounded a second time, whatever moves.
TEST_P(FineEntries, AHundredCompactionsChangeNoBit) {
  std::vector<float> want = Decoded();
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    const int n = cache_.length(0, 0);
    std::vector<int> all(n), kept;
    std::iota(all.begin(), all.end(), 0);
    std::sample(all.begin(), all.end(), std::back_inserter(kept), n * 98 / 100,
                random);
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

// Positions and scales included; fine pages are a fixed number.
TEST_P(FineEntries, BytesAreWithinTheLimits) {
  std::vector<int> kept(kEntries);
  std::iota(kept.begin(), kept.end(), 0);
  kept.erase(kept.begin() + kEntries / 2);  // so positions are stored
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  ASSERT_NE(cache_.View(0, 0).positions, nullptr);
  const HeadView view = cache_.View(0, 0);
  const int recent = view.length - view.recent_begin;
  const int64_t fine = static_cast<int64_t>(
      (1 + (recent + kFinePositions - 1) / kFinePositions) *
      FinePageBytes(GetParam()));
  EXPECT_LE(fine, FineBytes(GetParam()));
  const double f16 = 2.0 * 2 * kDim * kEntries;
  const double limit = GetParam().k == Codec::kInt8 ? 0.55 : 0.34;
  EXPECT_LE(static_cast<double>(cache_.bytes() - fine), limit * f16);
}

// Going back forgets what came behind, and fine pages with it.
TEST_P(FineEntries, TruncateGivesFinePagesBack) {
  ASSERT_TRUE(cache_.Truncate(kFinePositions + 1).ok());
  EXPECT_EQ(cache_.length(0, 0), kFinePositions + 1);
  const PageFormat& f = GetParam();
  EXPECT_EQ(cache_.bytes(),
            static_cast<int64_t>(f.page_bytes() + FinePageBytes(f)));
  ASSERT_TRUE(cache_.Truncate(0).ok());
  EXPECT_EQ(cache_.bytes(), 0);
  EXPECT_EQ(pool_.live_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, FineEntries,
    testing::Values(PageFormat{kDim, Codec::kInt8, Codec::kInt8},
                    PageFormat{kDim, Codec::kInt4, Codec::kInt4},
                    PageFormat{kDim, Codec::kInt4, Codec::kInt2}));

}  // namespace
}  // namespace pyramidkv
