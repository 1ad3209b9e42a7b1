// Entries that a compressor names are held finer, and stay so as they move.

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/testing/random_sample.h"
#include "gtest/gtest.h"
#include "kernels/key_rounding.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 64;
constexpr int kEntries = 1000;

class TopEntries : public testing::TestWithParam<HeadFormat> {
 protected:
  TopEntries()
      : k_(RandomFloats(size_t{kEntries} * kDim, 1)),
        v_(RandomFloats(size_t{kEntries} * kDim, 2)),
        cache_(&pool_, {1, 1, GetParam()}) {
    if (IsQuantized(GetParam().k)) {
      rounding_ = FitKeyRounding(kDim, 200, k_.data(), 32, 1, kDim, v_.data());
      EXPECT_TRUE(cache_.SetKeyRounding(0, 0, rounding_).ok());
    }
    EXPECT_TRUE(
        cache_.Append(0, 0, 0, kEntries, k_.data(), v_.data(), kDim).ok());
  }

  // Every third entry of those that may be, or every one from `first` on.
  std::vector<int> Some(int first = 0, int step = 3) const {
    const HeadView view = cache_.View(0, 0);
    std::vector<int> top;
    for (int i = std::max(view.sinks, first); i < view.length; i += step) {
      top.push_back(i);
    }
    return top;
  }

  void SetTop(const std::vector<int>& top) {
    std::vector<float> k, v;
    for (int i : top) {
      const auto row = size_t(i) * kDim;
      k.insert(k.end(), k_.begin() + row, k_.begin() + row + kDim);
      v.insert(v.end(), v_.begin() + row, v_.begin() + row + kDim);
    }
    ASSERT_TRUE(cache_.SetTop(0, 0, top, k.data(), v.data()).ok());
  }

  // K, then V, of each entry.
  static std::vector<std::vector<float>> Rows(const KvCache& cache) {
    const size_t n = size_t(cache.length(0, 0)) * kDim;
    std::vector<float> k(n), v(n);
    cache.Decode(0, 0, k.data(), v.data());
    std::vector<std::vector<float>> rows;
    for (size_t at = 0; at < n; at += kDim) {
      rows.emplace_back(k.begin() + at, k.begin() + at + kDim);
      rows.back().insert(rows.back().end(), v.begin() + at,
                         v.begin() + at + kDim);
    }
    return rows;
  }

  std::vector<float> AsTop(int entry) const {
    const PageFormat format = GetParam().top_page();
    std::vector<std::byte> page(format.page_bytes());
    std::vector<float> row(2 * kDim);
    const size_t at = size_t(entry) * kDim;
    const float* const keys =
        IsQuantized(format.k) ? rounding_.data() : nullptr;
    StoreEntry(format, page.data(), 3, &k_[at], &v_[at], {keys});
    LoadEntry(format, page.data(), 3, row.data(), row.data() + kDim, keys);
    return row;
  }

  PagePool pool_;
  std::vector<float> k_, v_, rounding_;
  KvCache cache_;
};

TEST_P(TopEntries, AreFinerAndOthersAsTheyWere) {
  const auto before = Rows(cache_);
  const std::vector<int> top = Some();
  ASSERT_GT(top.size(), 200u);
  SetTop(top);
  const auto after = Rows(cache_);
  const int recent = kEntries - GetParam().recent_positions();
  for (int i = 0; i < kEntries; ++i) {
    const bool finer = std::binary_search(top.begin(), top.end(), i);
    const bool there = finer && (i < recent || recent == kEntries);
    ASSERT_EQ(after[i], there ? AsTop(i) : before[i]) << i;
  }
}

// Those that are recent are read there, and finer still when they are not.
TEST_P(TopEntries, AgeOutOfTheRecentPages) {
  SetTop({kEntries - 3, kEntries - 2});
  ASSERT_TRUE(
      cache_.Append(0, 0, kEntries, 500, k_.data(), v_.data(), kDim).ok());
  const auto after = Rows(cache_);
  EXPECT_EQ(after[kEntries - 3], AsTop(kEntries - 3));
  EXPECT_EQ(after[kEntries - 2], AsTop(kEntries - 2));
}

// Entries held finer already are not rounded again.
TEST_P(TopEntries, ANewChoiceKeepsBits) {
  const std::vector<int> top = Some();
  SetTop(top);
  const auto before = Rows(cache_);
  std::vector<int> fewer(top.begin() + 50, top.end() - 50);
  const std::vector<float> none(fewer.size() * kDim, 1e3f);
  ASSERT_TRUE(cache_.SetTop(0, 0, fewer, none.data(), none.data()).ok());
  const auto after = Rows(cache_);
  for (int i : fewer) ASSERT_EQ(after[i], before[i]);
  SetTop({});
  EXPECT_TRUE(cache_.head(0, 0).Export().top.empty());
}

TEST_P(TopEntries, AHundredCompactionsChangeNoBit) {
  SetTop(Some(0, 2));
  auto want = Rows(cache_);
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    const int n = cache_.length(0, 0);
    const std::vector<int> kept = RandomSample(n, n * 98 / 100, &random);
    std::vector<std::vector<float>> left;
    for (int i : kept) left.push_back(want[i]);
    ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
    want = std::move(left);
    ASSERT_EQ(Rows(cache_), want) << "compaction " << round;
  }
}

TEST_P(TopEntries, AForkIsNotTouched) {
  SetTop(Some());
  const KvCache fork = cache_.Fork();
  const auto want = Rows(fork);
  std::vector<int> kept;
  for (int i = 0; i < kEntries; i += 2) kept.push_back(i);
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  EXPECT_EQ(Rows(fork), want);
  const auto after = Rows(cache_);
  for (size_t i = 0; i < kept.size(); ++i) ASSERT_EQ(after[i], want[kept[i]]);
}

// Pages in front leave; so do their entries, and in the end their pages.
TEST_P(TopEntries, DroppedOnesLeave) {
  SetTop(Some(0, 1));
  auto want = Rows(cache_);
  int64_t bytes = cache_.bytes();
  for (int before : {100, 600}) {
    const int had = cache_.length(0, 0);
    cache_.DropBefore(0, 0, before);
    want.erase(want.begin(), want.begin() + (had - cache_.length(0, 0)));
    ASSERT_EQ(Rows(cache_), want);
    EXPECT_LT(cache_.bytes(), bytes);
    bytes = cache_.bytes();
  }
  cache_.Clear();
  EXPECT_EQ(pool_.live_bytes(), 0);
}

// Marks, indices and whole pages included.
TEST_P(TopEntries, BytesAreWhatBudgetsCount) {
  const int64_t before = cache_.bytes();
  const std::vector<int> top = Some(0, 5);
  SetTop(top);
  const PageFormat format = GetParam().top_page();
  const auto share = double(top.size()) / kEntries;
  EXPECT_LE(cache_.bytes() - before,
            (share * GetParam().top_entry_bytes() + kTopMarkBytes) *
                    (kEntries + kPageEntries) +
                double(format.page_bytes()));
  EXPECT_GE(cache_.bytes() - before,
            double(top.size()) * GetParam().top_entry_bytes());
}

TEST_P(TopEntries, StatesThatCannotBeAreRefused) {
  SetTop(Some());
  const HeadState sound = cache_.head(0, 0).Export();
  const HeadFormat& format = GetParam();
  HeadFormat without = format;
  without.top.reset();
  EXPECT_TRUE(CheckHeadState(sound, format, kEntries).ok());
  EXPECT_FALSE(CheckHeadState(sound, without, kEntries).ok());
  for (int wrong = 0; wrong < 7; ++wrong) {
    HeadState state = sound;
    if (wrong == 0) std::swap(state.top[0], state.top[1]);
    if (wrong == 1) state.top.back() = kEntries;
    if (wrong == 2) state.top.front() = cache_.View(0, 0).sinks - 1;
    if (wrong == 3) state.top.assign(1, -1);
    if (wrong == 4) state.top[0] = std::numeric_limits<int32_t>::min();
    if (wrong == 5) {
      for (int i = 0; i < kOverlayEntries; ++i) state.top[i] = i - 500;
    }
    if (wrong == 6) state.top_origin = kOverlayEntries - 1;
    EXPECT_FALSE(CheckHeadState(state, format, kEntries).ok()) << wrong;
  }
}

HeadFormat Format(Codec k, Codec v, Codec top) {
  return {{kDim, k, v}, Codec::kF16, top};
}

INSTANTIATE_TEST_SUITE_P(
    Formats, TopEntries,
    testing::Values(Format(Codec::kInt4, Codec::kInt4, Codec::kInt8),
                    Format(Codec::kInt4, Codec::kInt2, Codec::kInt4),
                    Format(Codec::kInt4, Codec::kInt2, Codec::kF16),
                    Format(Codec::kF16, Codec::kInt4, Codec::kInt8),
                    Format(Codec::kInt8, Codec::kInt8, Codec::kF16)));

}  // namespace
}  // namespace pyramidkv
