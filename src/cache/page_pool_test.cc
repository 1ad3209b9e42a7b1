#include "cache/page_pool.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "cache/testing/resident_memory.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Parts of OS pages, whole ones, one and a half, halves of arenas, and more.
constexpr size_t kSizes[] = {64,    192,   2048,      3072,      4096,    6144,
                             16384, 18432, 65536 * 2, kMiB + 64, 3 * kMiB};

bool IsZero(const std::byte* page, size_t bytes) {
  return std::all_of(page, page + bytes,
                     [](std::byte b) { return b == std::byte{0}; });
}

TEST(PagePool, PagesAreZeroAlignedAndApart) {
  PagePool pool;
  std::mt19937 random(3);
  for (size_t bytes : kSizes) {
    std::vector<std::byte*> pages;
    for (int round = 0; round < 3; ++round) {
      while (pages.size() < std::max<size_t>(3, 3 * kMiB / bytes)) {
        std::byte* const page = pool.Allocate(bytes);
        ASSERT_NE(page, nullptr);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(page) % 64, 0u);
        ASSERT_TRUE(IsZero(page, bytes)) << bytes << " round " << round;
        pages.push_back(page);
      }
      EXPECT_EQ(pool.live_bytes(), static_cast<int64_t>(pages.size() * bytes));
      std::sort(pages.begin(), pages.end());
      for (size_t i = 0; i < pages.size(); ++i) {
        std::memset(pages[i], static_cast<int>(i % 255) + 1, bytes);
      }
      for (size_t i = 0; i < pages.size(); ++i) {
        const std::byte want{static_cast<uint8_t>(i % 255 + 1)};
        ASSERT_EQ(std::count(pages[i], pages[i] + bytes, want),
                  static_cast<ptrdiff_t>(bytes));
      }
      std::shuffle(pages.begin(), pages.end(), random);
      while (pages.size() > 2) {
        pool.Release(pages.back());
        pages.pop_back();
      }
    }
    for (std::byte* page : pages) pool.Release(page);
    EXPECT_EQ(pool.live_bytes(), 0);
    EXPECT_EQ(pool.mapped_bytes(), 0);
  }
}

// Freeing a page must not disturb its neighbours in the same OS page.
TEST(PagePool, NeighboursKeepTheirBytes) {
  PagePool pool;
  for (size_t bytes : {size_t{64}, size_t{3072}, size_t{18432}}) {
    std::byte* pages[9];
    for (std::byte*& page : pages) {
      page = pool.Allocate(bytes);
      std::memset(page, 0x77, bytes);
    }
    for (int i = 0; i < 9; i += 2) pool.Release(pages[i]);
    for (int i = 1; i < 9; i += 2) {
      EXPECT_EQ(std::count(pages[i], pages[i] + bytes, std::byte{0x77}),
                static_cast<ptrdiff_t>(bytes));
      pool.Release(pages[i]);
    }
  }
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

TEST(PagePool, CountsReferences) {
  PagePool pool;
  std::byte* const page = pool.Allocate(4096);
  EXPECT_TRUE(pool.Unique(page));
  pool.AddReference(page);
  pool.AddReference(page);
  EXPECT_FALSE(pool.Unique(page));
  EXPECT_EQ(pool.live_bytes(), 4096);
  page[5] = std::byte{9};
  pool.Release(page);
  EXPECT_FALSE(pool.Unique(page));
  pool.Release(page);
  EXPECT_TRUE(pool.Unique(page));
  EXPECT_EQ(page[5], std::byte{9});
  EXPECT_EQ(pool.live_bytes(), 4096);
  pool.Release(page);
  EXPECT_EQ(pool.live_bytes(), 0);
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

// Three arenas, of which one has many holes and one has few: new pages go
// where the fewest are, and the emptiest arena runs empty.
TEST(PagePool, FillsTheFullestArenaFirst) {
  constexpr size_t kBytes = 64 << 10;
  constexpr size_t kPages = kArenaBytes / kBytes;
  PagePool pool;
  std::vector<std::byte*> pages;
  for (size_t i = 0; i < 3 * kPages; ++i)
    pages.push_back(pool.Allocate(kBytes));
  EXPECT_EQ(pool.mapped_bytes(), static_cast<int64_t>(3 * kArenaBytes));
  std::set<std::byte*> few;
  for (size_t i = 0; i < kPages - 1; ++i) pool.Release(pages[i]);
  for (size_t i = kPages; i < kPages + 3; ++i) {
    pool.Release(pages[i]);
    few.insert(pages[i]);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(few.erase(pool.Allocate(kBytes)), 1u);
  pool.Release(pages[kPages - 1]);
  EXPECT_EQ(pool.mapped_bytes(), static_cast<int64_t>(2 * kArenaBytes));
  for (size_t i = kPages; i < 3 * kPages; ++i) pool.Release(pages[i]);
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

TEST(PagePool, ReleasedMemoryLeavesTheProcess) {
  if (!kResidentMemoryIsOurs) GTEST_SKIP() << "sanitizers keep shadows";
  constexpr size_t kBytes = 16 << 10;
  constexpr size_t kPages = 64 * kMiB / kBytes;
  PagePool pool;
  std::vector<std::byte*> pages;
  pages.reserve(kPages);
  const int64_t before = ResidentBytes();
  for (size_t i = 0; i < kPages; ++i) {
    pages.push_back(pool.Allocate(kBytes));
    std::memset(pages.back(), 1, kBytes);
  }
  const int64_t slack = 4 * kMiB;
  EXPECT_GE(ResidentBytes() - before, int64_t{64 * kMiB} - slack);

  // Three of four, so that no arena runs empty.
  for (size_t i = 0; i < kPages; ++i) {
    if (i % 4 != 0) pool.Release(pages[i]);
  }
  EXPECT_EQ(pool.mapped_bytes(), int64_t{64 * kMiB});
  EXPECT_EQ(pool.live_bytes(), int64_t{16 * kMiB});
  EXPECT_LE(ResidentBytes() - before, int64_t{16 * kMiB} + slack);

  for (size_t i = 0; i < kPages; i += 4) pool.Release(pages[i]);
  EXPECT_EQ(pool.mapped_bytes(), 0);
  EXPECT_LE(ResidentBytes() - before, slack);
}

TEST(PagePoolThreaded, AllocateShareAndRelease) {
  PagePool pool;
  const auto work = [&pool](int seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<std::byte*, size_t>> mine;
    for (int i = 0; i < 5000; ++i) {
      if (mine.size() < 40 && random() % 2 == 0) {
        const size_t bytes = size_t{2048} << random() % 7;
        std::byte* const page = pool.Allocate(bytes);
        EXPECT_TRUE(page[0] == std::byte{0} && page[bytes - 1] == std::byte{0});
        page[0] = page[bytes - 1] = std::byte{static_cast<uint8_t>(seed)};
        mine.emplace_back(page, bytes);
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        const auto [page, bytes] = mine.back();
        mine.pop_back();
        pool.AddReference(page);
        EXPECT_FALSE(pool.Unique(page));
        pool.Release(page);
        EXPECT_EQ(page[0], std::byte{static_cast<uint8_t>(seed)});
        EXPECT_EQ(page[bytes - 1], std::byte{static_cast<uint8_t>(seed)});
        pool.Release(page);
      }
    }
    for (const auto& [page, bytes] : mine) pool.Release(page);
  };
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) threads.emplace_back(work, t);
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(pool.live_bytes(), 0);
  EXPECT_EQ(pool.mapped_bytes(), 0);
}

}  // namespace
}  // namespace pyramidkv
