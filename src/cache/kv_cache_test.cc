#include "cache/kv_cache.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "cache/testing/resident_memory.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kHeadDim = 16;
constexpr PageFormat kF16 = {kHeadDim, Codec::kF16, Codec::kF16};

// Row for a position, exact in every codec: each position has its own.
void FillRow(int position, float* row) {
  for (int c = 0; c < kHeadDim; ++c) {
    row[c] = static_cast<float>((position * 7 + c * 13) % 256 - 128);
  }
}

std::vector<float> RowsAt(int position, int count) {
  std::vector<float> rows(static_cast<size_t>(count) * kHeadDim);
  for (int i = 0; i < count; ++i) {
    FillRow(position + i, &rows[i * kHeadDim]);
  }
  return rows;
}

void AppendAt(KvCache& cache, int layer, int head, int position, int count) {
  const std::vector<float> k = RowsAt(position, count);
  const std::vector<float> v = RowsAt(position + 1000, count);
  const Status status =
      cache.Append(layer, head, position, count, k.data(), v.data(), kHeadDim);
  ASSERT_TRUE(status.ok()) << status.message();
}

void Keep(KvCache& cache, int layer, int head, std::vector<int> kept) {
  ASSERT_TRUE(cache.Compact(layer, head, kept).ok());
}

std::vector<int> Range(int begin, int end) {
  std::vector<int> range(end - begin);
  std::iota(range.begin(), range.end(), begin);
  return range;
}

std::vector<int> Positions(const KvCache& cache, int layer, int head) {
  const HeadView view = cache.View(layer, head);
  std::vector<int> positions(view.length);
  for (int i = 0; i < view.length; ++i) positions[i] = view.position(i);
  return positions;
}

// Every entry is the one of its position.
void ExpectRows(const KvCache& cache, int layer, int head) {
  const int n = cache.length(layer, head);
  std::vector<float> k(static_cast<size_t>(n) * kHeadDim), v(k.size());
  cache.Decode(layer, head, k.data(), v.data());
  const HeadView view = cache.View(layer, head);
  for (int i = 0; i < n; ++i) {
    float row[kHeadDim];
    FillRow(view.position(i), row);
    ASSERT_TRUE(std::equal(row, row + kHeadDim, &k[i * kHeadDim])) << i;
    FillRow(view.position(i) + 1000, row);
    ASSERT_TRUE(std::equal(row, row + kHeadDim, &v[i * kHeadDim])) << i;
  }
}

// Entries Compact and AppendKept drop.
struct Gone {
  std::vector<int> positions;
  Status status;
  void ListenTo(KvCache* cache) {
    cache->set_evicted_sink([this](const EvictedEntries& e) {
      if (!status.ok()) return status;
      for (int i = 0; i < e.count; ++i) {
        float k[kHeadDim], v[kHeadDim];
        FillRow(e.positions[i], k);
        FillRow(e.positions[i] + 1000, v);
        EXPECT_TRUE(std::equal(k, k + kHeadDim, e.k + i * kHeadDim));
        EXPECT_TRUE(std::equal(v, v + kHeadDim, e.v + i * kHeadDim));
        positions.push_back(e.positions[i]);
      }
      return Status();
    });
  }
};

TEST(KvCache, GivesTheSinkWhatLeaves) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  Gone gone;
  gone.ListenTo(&cache);
  AppendAt(cache, 0, 0, 0, 10);
  Keep(cache, 0, 0, {0, 1, 4, 9});
  EXPECT_EQ(gone.positions, (std::vector<int>{2, 3, 5, 6, 7, 8}));
  gone.positions.clear();
  const std::vector<float> k = RowsAt(10, 6), v = RowsAt(1010, 6);
  const std::vector<int> rows = {1, 4};
  ASSERT_TRUE(
      cache.AppendKept(0, 0, 10, rows, k.data(), v.data(), kHeadDim, 6).ok());
  EXPECT_EQ(gone.positions, (std::vector<int>{10, 12, 13, 15}));
  EXPECT_EQ(Positions(cache, 0, 0), (std::vector<int>{0, 1, 4, 9, 11, 14}));
}

TEST(KvCache, KeepsEverythingIfTheSinkFails) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  Gone gone;
  gone.ListenTo(&cache);
  AppendAt(cache, 0, 0, 0, 10);
  gone.status = Status::Runtime("disk full");
  const std::vector<int> kept = {3};
  EXPECT_FALSE(cache.Compact(0, 0, kept).ok());
  EXPECT_EQ(Positions(cache, 0, 0), Range(0, 10));
  const std::vector<float> rows = RowsAt(10, 2);
  EXPECT_FALSE(cache
                   .AppendKept(0, 0, 10, std::vector<int>{1}, rows.data(),
                               rows.data(), kHeadDim, 2)
                   .ok());
  EXPECT_EQ(Positions(cache, 0, 0), Range(0, 10));
  ExpectRows(cache, 0, 0);
}

TEST(KvCache, BytesOfAFullCacheAreTheFormula) {
  for (Codec codec : {Codec::kF32, Codec::kF16, Codec::kBf16}) {
    PagePool pool;
    KvCache cache(&pool, {3, 2, {kHeadDim, codec, codec}});
    for (int tokens = 64; tokens <= 640; tokens += 64) {
      for (int layer = 0; layer < 3; ++layer) {
        for (int h = 0; h < 2; ++h) {
          AppendAt(cache, layer, h, tokens - 64, 64);
        }
      }
      const int64_t layer_bytes =
          2 * 2 * kHeadDim * tokens * static_cast<int64_t>(CodecBytes(codec));
      EXPECT_EQ(cache.bytes(), 3 * layer_bytes);
      EXPECT_EQ(cache.layer_bytes(1), layer_bytes);
      EXPECT_EQ(pool.live_bytes(), 3 * layer_bytes);
      EXPECT_EQ(cache.entries(), 3 * 2 * tokens);
    }
  }
}

TEST(KvCache, KeepingEverythingChangesNothing) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  AppendAt(cache, 0, 0, 0, 200);
  const HeadView before = cache.View(0, 0);
  const std::vector<const std::byte*> pages(before.pages, before.pages + 4);
  const int64_t bytes = cache.bytes();
  Keep(cache, 0, 0, Range(0, 200));
  const HeadView after = cache.View(0, 0);
  EXPECT_TRUE(std::equal(pages.begin(), pages.end(), after.pages));
  EXPECT_EQ(after.length, 200);
  EXPECT_EQ(after.positions, nullptr);
  EXPECT_EQ(cache.bytes(), bytes);
}

TEST(KvCache, ConsecutiveRestsNeedNoPositions) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  AppendAt(cache, 0, 0, 0, 200);
  Keep(cache, 0, 0, Range(100, 200));
  EXPECT_EQ(cache.View(0, 0).positions, nullptr);
  EXPECT_EQ(cache.View(0, 0).base, 100);
  EXPECT_EQ(cache.bytes(), 2 * static_cast<int64_t>(kF16.page_bytes()));
  AppendAt(cache, 0, 0, 200, 1);
  EXPECT_EQ(cache.View(0, 0).positions, nullptr);
  EXPECT_EQ(Positions(cache, 0, 0), Range(100, 201));

  Keep(cache, 0, 0, {0, 50, 51, 99, 100});
  EXPECT_EQ(Positions(cache, 0, 0), (std::vector{100, 150, 151, 199, 200}));
  EXPECT_EQ(cache.bytes(), static_cast<int64_t>(kF16.page_bytes()) + 5 * 4);
  AppendAt(cache, 0, 0, 201, 1);
  Keep(cache, 0, 0, {3, 4, 5});  // 199, 200, 201: the hole is gone
  EXPECT_EQ(cache.View(0, 0).positions, nullptr);
  EXPECT_EQ(cache.bytes(), static_cast<int64_t>(kF16.page_bytes()));
  ExpectRows(cache, 0, 0);
  Keep(cache, 0, 0, {});
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

TEST(KvCache, AppendKeptGathersRows) {
  PagePool pool;
  KvCache cache(&pool, {1, 2, kF16});
  const std::vector<float> k = RowsAt(10, 300);
  const std::vector<float> v = RowsAt(1010, 300);
  std::vector<int> rows;
  for (int r = 0; r < 300; r += 3) rows.push_back(r);
  ASSERT_TRUE(
      cache.AppendKept(0, 0, 10, rows, k.data(), v.data(), kHeadDim, 300).ok());
  ASSERT_TRUE(cache
                  .AppendKept(0, 1, 10, Range(0, 300), k.data(), v.data(),
                              kHeadDim, 300)
                  .ok());
  ASSERT_EQ(cache.length(0, 0), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(cache.View(0, 0).position(i), 10 + 3 * i);
  }
  ExpectRows(cache, 0, 0);
  EXPECT_EQ(cache.View(0, 1).positions, nullptr);  // all rows: no hole
  EXPECT_EQ(Positions(cache, 0, 1), Range(10, 310));
  ExpectRows(cache, 0, 1);
}

TEST(KvCache, DropBeforeGivesBackWholePages) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  AppendAt(cache, 0, 0, 0, 300);
  cache.DropBefore(0, 0, 63);
  EXPECT_EQ(cache.length(0, 0), 300);
  cache.DropBefore(0, 0, 130);
  EXPECT_EQ(Positions(cache, 0, 0), Range(128, 300));
  EXPECT_EQ(cache.View(0, 0).positions, nullptr);
  EXPECT_EQ(cache.bytes(), 3 * static_cast<int64_t>(kF16.page_bytes()));
  AppendAt(cache, 0, 0, 300, 50);
  ExpectRows(cache, 0, 0);
  cache.DropBefore(0, 0, 1000);
  EXPECT_EQ(cache.length(0, 0), 0);
  EXPECT_EQ(cache.bytes(), 0);
}

TEST(KvCache, ForksShareUntilOneWrites) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  AppendAt(cache, 0, 0, 0, 160);
  const auto page = static_cast<int64_t>(kF16.page_bytes());
  KvCache fork = cache.Fork();
  EXPECT_EQ(pool.live_bytes(), 3 * page);
  EXPECT_EQ(fork.bytes(), 3 * page);
  AppendAt(fork, 0, 0, 160, 3);  // into the shared last page: a copy
  EXPECT_EQ(pool.live_bytes(), 4 * page);
  AppendAt(cache, 0, 0, 160, 1);
  EXPECT_EQ(pool.live_bytes(), 4 * page) << "now nobody else has that page";

  std::vector<int> kept = Range(0, 64);  // the first page stays shared
  for (int i = 64; i < 161; i += 2) kept.push_back(i);
  Keep(cache, 0, 0, kept);
  EXPECT_EQ(cache.View(0, 0).pages[0], fork.View(0, 0).pages[0]);
  EXPECT_NE(cache.View(0, 0).pages[1], fork.View(0, 0).pages[1]);
  EXPECT_EQ(Positions(fork, 0, 0), Range(0, 163));
  ExpectRows(cache, 0, 0);
  ExpectRows(fork, 0, 0);
  cache.Clear();
  EXPECT_EQ(pool.live_bytes(), 3 * page);
  ExpectRows(fork, 0, 0);
}

TEST(KvCache, MovesItsPages) {
  PagePool pool;
  KvCache cache(&pool, {1, 1, kF16});
  AppendAt(cache, 0, 0, 0, 100);
  KvCache other(std::move(cache));
  ExpectRows(other, 0, 0);
  KvCache third(&pool, {1, 1, kF16});
  AppendAt(third, 0, 0, 0, 500);
  third = std::move(other);
  EXPECT_EQ(third.length(0, 0), 100);
  EXPECT_EQ(pool.live_bytes(), third.bytes());
}

// V = K must still hold after any compaction.
TEST(KvCache, KeysAndValuesStayPaired) {
  std::mt19937 random(11);
  for (Codec codec : {Codec::kF32, Codec::kF16, Codec::kBf16}) {
    PagePool pool;
    KvCache cache(&pool, {1, 1, {kHeadDim, codec, codec}});
    int position = 0;
    for (int round = 0; round < 200; ++round) {
      const int count = 1 + static_cast<int>(random() % 90);
      std::vector<float> rows(static_cast<size_t>(count) * kHeadDim);
      for (float& x : rows) x = static_cast<float>(random()) * 1e-6f;
      ASSERT_TRUE(
          cache
              .Append(0, 0, position, count, rows.data(), rows.data(), kHeadDim)
              .ok());
      position += count;
      std::vector<int> kept;
      for (int i = 0; i < cache.length(0, 0); ++i) {
        if (random() % 4 != 0) kept.push_back(i);
      }
      Keep(cache, 0, 0, kept);
      std::vector<float> k(kept.size() * kHeadDim), v(k.size());
      cache.Decode(0, 0, k.data(), v.data());
      ASSERT_EQ(k, v);
    }
  }
}

TEST(KvCache, CompactedMemoryLeavesTheProcess) {
  if (!kResidentMemoryIsOurs) GTEST_SKIP() << "sanitizers keep shadows";
  constexpr int kTokens = 16384;
  PagePool pool;
  KvCache cache(&pool, {8, 8, kF16});
  const std::vector<float> rows = RowsAt(0, kTokens);
  std::vector<int> kept;
  for (int i = 0; i < kTokens; i += 4) kept.push_back(i);
  const int64_t before = ResidentBytes();
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(cache
                    .Append(i / 8, i % 8, 0, kTokens, rows.data(), rows.data(),
                            kHeadDim)
                    .ok());
  }
  const int64_t full = cache.bytes();  // 64 MiB
  EXPECT_GE(ResidentBytes() - before, full * 95 / 100);
  for (int i = 0; i < 64; ++i) Keep(cache, i / 8, i % 8, kept);
  EXPECT_LE(cache.bytes(), full * 32 / 100);  // positions weigh 1/16 here
  EXPECT_LE(ResidentBytes() - before, full * 40 / 100);
  cache.Clear();
  EXPECT_LE(ResidentBytes() - before, full * 5 / 100);
}

// Pages of 8 GiB: the address space ends before the entries do.
TEST(KvCache, OutOfMemoryLeavesTheHeadAsItWas) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer ends the program instead";
#endif
  PagePool pool;
  KvCache cache(&pool, {1, 1, {1 << 24, Codec::kF32, Codec::kF32}});
  const Status status =
      cache.Append(0, 0, 0, 17000 * kPageEntries, nullptr, nullptr, 0);
  EXPECT_EQ(status.code(), StatusCode::kRuntime);
  EXPECT_EQ(cache.length(0, 0), 0);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

// Each thread works on heads of its own; the pool is shared.
TEST(KvCacheThreaded, HeadsInParallel) {
  constexpr int kThreads = 4;
  PagePool pool;
  KvCache cache(&pool, {kThreads, 2, kF16});
  AppendAt(cache, 0, 0, 0, 100);
  KvCache fork = cache.Fork();
  const auto work = [](KvCache* mine, int layer, int seed) {
    std::mt19937 random(seed);
    int position = mine->length(layer, 0);
    for (int round = 0; round < 100; ++round) {
      const int count = 1 + static_cast<int>(random() % 100);
      for (int h = 0; h < 2; ++h) AppendAt(*mine, layer, h, position, count);
      position += count;
      for (int h = 0; h < 2; ++h) {
        std::vector<int> kept;
        for (int i = 0; i < mine->length(layer, h); ++i) {
          if (random() % 3 != 0) kept.push_back(i);
        }
        Keep(*mine, layer, h, kept);
        ExpectRows(*mine, layer, h);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back(work, &cache, t, t + 1);
  }
  threads.emplace_back(work, &fork, 0, 9);  // another sequence, shared pages
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(pool.live_bytes() % static_cast<int64_t>(kF16.page_bytes()), 0);
  cache.Clear();
  fork.Clear();
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

}  // namespace
}  // namespace pyramidkv
