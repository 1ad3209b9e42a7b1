// Keys by channel (PageFormat::channel): when they get codes, what is read
// until then, and what moves do to them.

#include <algorithm>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/channel_keys.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 16;
constexpr int kTokens = 500;

HeadFormat Format(Codec k) {
  HeadFormat format = {{kDim, k, Codec::kInt8}};
  format.channel = true;
  return format;
}

class ChannelCache : public testing::TestWithParam<Codec> {
 protected:
  ChannelCache()
      : format_(Format(GetParam())),
        k_(RandomFloats(size_t{kTokens} * kDim, 1)),
        v_(RandomFloats(size_t{kTokens} * kDim, 2)),
        cache_(&pool_, {1, 1, format_}) {}

  void Append(int from, int count) {
    ASSERT_TRUE(cache_
                    .Append(0, 0, from, count, &k_[size_t(from) * kDim],
                            &v_[size_t(from) * kDim], kDim)
                    .ok());
  }
  std::vector<float> Keys() const {
    std::vector<float> k(size_t(cache_.length(0, 0)) * kDim);
    cache_.Decode(0, 0, k.data(), nullptr);
    return k;
  }
  // Keys of a whole group as their codes have them.
  std::vector<float> Coded(const std::vector<float>& k, int count) const {
    std::vector<std::byte> page(format_.page_bytes());
    StoreKeyGroup(format_, 0, count, k.data(), page.data());
    std::vector<float> got(size_t(count) * kDim);
    for (int i = 0; i < count; ++i) {
      LoadEntry(format_, page.data(), i, &got[size_t(i) * kDim], nullptr);
    }
    return got;
  }
  std::vector<float> Slice(const std::vector<float>& k, int from,
                           int count) const {
    const auto begin = k.begin() + size_t(from) * kDim;
    return {begin, begin + size_t(count) * kDim};
  }
  static std::vector<float> Halves(std::vector<float> k) {
    for (float& x : k) x = F32FromF16(F16FromF32(x));
    return k;
  }
  // Keys appended one after the other become halves at the first positions
  // and where they are new or wait, else codes of their group.
  std::vector<float> Expected(int n) const {
    const int recent =
        std::min(n - format_.recent_positions(), format_.FirstWaiting(n));
    std::vector<float> all;
    for (int at = 0; at < n; at += kChannelGroup) {
      const int count = std::min(kChannelGroup, n - at);
      const auto halves = Halves(Slice(k_, at, count));
      const bool whole = count == kChannelGroup;
      const auto coded = whole ? Coded(Slice(k_, at, count), count) : halves;
      for (int i = 0; i < count; ++i) {
        const bool fine = at + i < kSinkPositions || at + i >= recent;
        const auto row = Slice(fine ? halves : coded, i, 1);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
    return all;
  }

  const HeadFormat format_;
  PagePool pool_;
  std::vector<float> k_, v_;
  KvCache cache_;
};

// However they come: a prompt, one by one, in pieces. (A group that waited has
// been rounded to halves before it is coded: within a step of the others.)
TEST_P(ChannelCache, GroupsGetCodesWhenTheyAreComplete) {
  Append(0, kTokens);
  EXPECT_EQ(Keys(), Expected(kTokens));
  for (int n : {1, 31, 32, 33, 100, 200}) {
    cache_.Clear();
    Append(0, n);
    EXPECT_EQ(Keys(), Expected(n)) << n;
  }
}

TEST_P(ChannelCache, PiecesAreLikeAWhole) {
  k_ = Halves(k_);  // so that waiting changes nothing
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    cache_.Clear();
    const int most = 1 + static_cast<int>(random() % 90);
    for (int n = 0; n < kTokens;) {
      const int count = std::min<int>(1 + random() % most, kTokens - n);
      Append(n, count);
      n += count;
      ASSERT_EQ(Keys(), Expected(n)) << n << " tokens, up to " << most;
    }
  }
}

// Keys of a prompt are chosen before they are coded.
TEST_P(ChannelCache, PrefillCodesWhatIsKept) {
  std::vector<int> rows;
  for (int i = 20; i < 330; i += 1 + i % 3) rows.push_back(i);
  ASSERT_TRUE(
      cache_.AppendKept(0, 0, 0, rows, k_.data(), v_.data(), kDim, kTokens)
          .ok());
  std::vector<float> kept;
  for (int i : rows) {
    const auto row = Slice(k_, i, 1);
    kept.insert(kept.end(), row.begin(), row.end());
  }
  const auto got = Keys();
  const int n = static_cast<int>(rows.size());
  for (int at = 0; at < n; at += kChannelGroup) {
    const int count = std::min(kChannelGroup, n - at);
    const auto want = Slice(kept, at, count);
    EXPECT_EQ(Slice(got, at, count),
              count == kChannelGroup ? Coded(want, count) : Halves(want))
        << at;
  }
}

// Groups before the first entry that leaves stay as they are, to the bit; those
// after it are coded anew, once, from what was there.
TEST_P(ChannelCache, CompactCodesWhatMovesOnceMore) {
  Append(0, kTokens);
  const auto before = Keys();
  std::vector<int> kept(kTokens);
  std::iota(kept.begin(), kept.end(), 0);
  kept.erase(kept.begin() + 300, kept.begin() + 310);
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  const auto after = Keys();
  EXPECT_EQ(Slice(after, 0, 288), Slice(before, 0, 288));
  std::vector<float> left;
  for (int i = 288; i < 320 + 10; ++i) {
    if (i >= 300 && i < 310) continue;
    const auto row = Slice(before, i, 1);
    left.insert(left.end(), row.begin(), row.end());
  }
  EXPECT_EQ(Slice(after, 288, 32), Coded(left, 32));
  const int recent = kTokens - format_.recent_positions() + 1;
  EXPECT_EQ(Slice(after, recent - 10, kTokens - recent),
            Slice(before, recent, kTokens - recent));
}

// A group of which the last entries left has codes for the others; it is coded
// again when it is complete again.
TEST_P(ChannelCache, APrefixKeepsItsCodes) {
  Append(0, kTokens);
  const auto before = Keys();
  std::vector<int> kept(200);
  std::iota(kept.begin(), kept.end(), 0);
  ASSERT_TRUE(cache_.Compact(0, 0, kept).ok());
  EXPECT_EQ(Keys(), Slice(before, 0, 200));
  const float* const fresh = &k_[size_t{200} * kDim];
  ASSERT_TRUE(cache_.Append(0, 0, kTokens, 100, fresh, fresh, kDim).ok());
  const auto after = Keys();
  EXPECT_EQ(Slice(after, 0, 192), Slice(before, 0, 192));
  auto mixed = Slice(before, 192, 8);
  mixed.insert(mixed.end(), fresh, fresh + size_t{24} * kDim);
  const auto coded = Coded(mixed, 32);
  const int recent = std::max(300 - format_.recent_positions() - 192, 8);
  EXPECT_EQ(Slice(after, 192, std::min(recent, 32)),
            Slice(coded, 0, std::min(recent, 32)));
}

TEST_P(ChannelCache, HeadsComeBack) {
  for (int n : {7, 32, 45, kTokens}) {
    cache_.Clear();
    Append(0, n);
    KvCache other(&pool_, {1, 1, format_});
    std::vector<std::span<const std::byte>> pages;
    cache_.head(0, 0).ForEachPage(
        [&](std::span<const std::byte> page) { pages.push_back(page); });
    size_t next = 0;
    ASSERT_TRUE(other.head(0, 0)
                    .Import(n, cache_.head(0, 0).Export(),
                            [&](std::span<std::byte> page) {
                              std::copy_n(pages[next++].begin(), page.size(),
                                          page.begin());
                              return Status();
                            })
                    .ok());
    EXPECT_EQ(next, pages.size());
    std::vector<float> k(size_t(n) * kDim);
    other.Decode(0, 0, k.data(), nullptr);
    EXPECT_EQ(k, Keys());
    HeadState wrong = cache_.head(0, 0).Export();
    wrong.coded = n + 1;
    EXPECT_FALSE(CheckHeadState(wrong, format_, n).ok());
    wrong.coded = format_.FirstWaiting(n) - 1;
    EXPECT_FALSE(CheckHeadState(wrong, format_, n).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, ChannelCache,
                         testing::Values(Codec::kInt8, Codec::kInt4));

// Positions and scales included, of what is not in overlays, of f16.
TEST(ChannelCacheBytes, AreWithinTheLimits) {
  constexpr int kEntries = 4096, kHeadDim = 64;
  for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
    HeadFormat format = {{kHeadDim, codec, codec}};
    format.channel = true;
    PagePool pool;
    KvCache cache(&pool, {1, 1, format});
    const auto rows = RandomFloats(size_t{kEntries} * kHeadDim, 1);
    std::vector<int> kept(kEntries);
    std::iota(kept.begin(), kept.end(), 0);
    kept[0] = 0;
    kept.erase(kept.begin() + 1);  // so positions are stored
    ASSERT_TRUE(cache
                    .AppendKept(0, 0, 0, kept, rows.data(), rows.data(),
                                kHeadDim, kEntries)
                    .ok());
    ASSERT_NE(cache.View(0, 0).positions, nullptr);
    const double f16 = 2.0 * 2 * kHeadDim * kEntries;
    const double limit = codec == Codec::kInt8 ? 0.59 : 0.34;
    EXPECT_LE(static_cast<double>(cache.bytes() - format.overlay_bytes()),
              limit * f16);
  }
}

}  // namespace
}  // namespace pyramidkv
