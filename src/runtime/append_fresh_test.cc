#include "runtime/append_fresh.h"

#include <random>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"
#include "kernels/page_rows.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 8;
constexpr int kPosition = 3;

struct Fresh {
  explicit Fresh(int rows) : k(size_t(rows) * kHeadDim), half(k.size()) {
    std::mt19937 random(rows);
    std::normal_distribution<float> normal;
    v = k;
    for (float& x : k) x = normal(random);
    for (float& x : v) x = normal(random);
    ToF16(v.data(), v.size(), half.data());
    entries.fresh = rows;
    entries.fresh_position = kPosition;
    entries.past = &past;
    entries.k = &k_of;
  }

  LayerEntries Held(bool as_f16) {
    k_of = k.data();
    v_of = v.data();
    half_of = as_f16 ? half.data() : nullptr;
    entries.v = &v_of;
    entries.fresh_v16 = &half_of;
    return entries;
  }

  std::vector<float> k, v;
  std::vector<uint16_t> half;
  int past = 0;
  const float *k_of = nullptr, *v_of = nullptr;
  const uint16_t* half_of = nullptr;
  LayerEntries entries;
};

void ExpectEqual(const KvCache& got, const KvCache& want) {
  const HeadState a = got.head(0, 0).Export(), b = want.head(0, 0).Export();
  EXPECT_EQ(a.sides.length, b.sides.length);
  EXPECT_EQ(a.seen, b.seen);
  EXPECT_EQ(a.sides.positions, b.sides.positions);
  EXPECT_EQ(got.bytes(), want.bytes());
  std::vector<float> k[2], v[2];
  for (int i : {0, 1}) {
    k[i].resize(size_t(b.sides.length) * kHeadDim);
    v[i].resize(k[i].size());
    (i == 0 ? got : want).Decode(0, 0, k[i].data(), v[i].data());
  }
  EXPECT_EQ(k[0], k[1]);
  EXPECT_EQ(v[0], v[1]);
}

// The cache cannot tell in which form the values came.
TEST(AppendFresh, HalvesGiveWhatFloatsGive) {
  const KvShape shape = {1, 1, {kHeadDim, Codec::kF16, Codec::kF16}};
  for (int n : {1, 100, 256, 257, 1000}) {
    Fresh fresh(n);
    for (int choice = 0; choice < 6; ++choice) {
      std::vector<int> rows;
      for (int i = 0; i < n; ++i) {
        const bool kept[] = {true,        false,     i % 3 == 0,
                             i > n - 400, i < n / 2, i % 100 != 7 || i < 300};
        if (kept[choice]) rows.push_back(i);
      }
      PagePool pool;
      KvCache got(&pool, shape), want(&pool, shape);
      ASSERT_TRUE(AppendFresh(fresh.Held(true), 0, rows, &got).ok());
      ASSERT_TRUE(AppendFresh(fresh.Held(false), 0, rows, &want).ok());
      SCOPED_TRACE(testing::Message() << n << " rows, choice " << choice);
      ExpectEqual(got, want);
    }
  }
}

TEST(AppendFresh, AllFromARowOn) {
  const KvShape shape = {1, 1, {kHeadDim, Codec::kF16, Codec::kF16}};
  for (int first : {0, 61, 999}) {
    Fresh fresh(1000);
    PagePool pool;
    KvCache got(&pool, shape), want(&pool, shape);
    ASSERT_TRUE(AppendAllFresh(fresh.Held(true), 0, first, &got).ok());
    ASSERT_TRUE(AppendAllFresh(fresh.Held(false), 0, first, &want).ok());
    ExpectEqual(got, want);
  }
}

}  // namespace
}  // namespace pyramidkv
