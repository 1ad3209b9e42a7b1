#include "cache/overlay.h"

#include <algorithm>
#include <random>
#include <vector>

#include "cache/testing/random_sample.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 8;
constexpr PageFormat kFormat = {kDim, Codec::kF16, Codec::kF16, 16};

std::vector<float> RowOf(int i) {
  return std::vector<float>(kDim, static_cast<float>(i));
}

// A segment's view: entries, and the rows that they were stored as.
struct Seen {
  std::vector<int> entries, rows;
};
Seen SeenIn(const Segment& segment) {
  Seen seen;
  std::vector<float> k(kDim), v(kDim);
  for (int slot = segment.begin; slot < segment.end; ++slot) {
    segment.Load(slot, k.data(), v.data());
    EXPECT_EQ(k, v);
    seen.entries.push_back(segment.entry(slot));
    seen.rows.push_back(static_cast<int>(k[0]));
  }
  return seen;
}

// Entries [first, end), each stored as the row of its number.
RangeOverlay Range(PagePool* pool, int first, int end) {
  RangeOverlay overlay(pool, kFormat);
  overlay.Restart(first);
  EXPECT_TRUE(overlay.Reserve(end));
  for (int i = first; i < end; ++i) {
    overlay.Append(RowOf(i).data(), RowOf(i).data());
  }
  return overlay;
}

TEST(RangeOverlay, GivesPartsOfItsEntries) {
  PagePool pool;
  const RangeOverlay overlay = Range(&pool, 100, 150);
  EXPECT_EQ(overlay.end(), 150);
  const Seen seen = SeenIn(overlay.Part(110, 140));
  ASSERT_EQ(seen.entries.size(), 30u);
  EXPECT_EQ(seen.entries.front(), 110);
  EXPECT_EQ(seen.rows, seen.entries);
  EXPECT_EQ(SeenIn(overlay.Part(140, 200)).entries.back(), 149);
  EXPECT_TRUE(overlay.Part(130, 130).empty());
}

TEST(RangeOverlay, MovesWithTheEntriesOfItsHead) {
  PagePool pool;
  RangeOverlay overlay = Range(&pool, 100, 150);
  std::mt19937 random(2);
  const std::vector<int> kept = RandomSample(150, 80, &random);
  overlay.Keep(kept);
  const Seen seen = SeenIn(overlay.Part(overlay.first(), 80));
  EXPECT_EQ(overlay.end(), 80);
  for (size_t i = 0; i < seen.rows.size(); ++i) {
    EXPECT_EQ(kept[seen.entries[i]], seen.rows[i]);
    EXPECT_GE(seen.rows[i], 100);
  }
}

// By whole pages; slots of entries that left stay until their page goes.
TEST(RangeOverlay, EntriesLeaveInFront) {
  PagePool pool;
  RangeOverlay overlay = Range(&pool, 0, 50);
  overlay.DropFront(20);
  EXPECT_EQ(overlay.first(), -20);
  EXPECT_EQ(SeenIn(overlay.Part(0, 30)).rows.front(), 20);
  overlay.ReleaseBefore(0);
  EXPECT_EQ(overlay.first(), -4);
  EXPECT_EQ(overlay.run().pages().size(), 3u);
  EXPECT_EQ(SeenIn(overlay.Part(0, 30)).rows.front(), 20);
  overlay.DropFront(30);
  EXPECT_TRUE(overlay.empty());
  EXPECT_EQ(pool.live_bytes(), 0);
}

// Listed entries, each stored as the row of its number.
ListOverlay List(PagePool* pool, const std::vector<int>& entries) {
  ListOverlay overlay(pool, kFormat);
  std::vector<float> rows;
  for (int i : entries) {
    const std::vector<float> row = RowOf(i);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  EXPECT_TRUE(overlay.Set(entries, rows.data(), rows.data(), {}));
  return overlay;
}

std::vector<int> Marked(const ListOverlay& overlay) {
  std::vector<int> entries;
  for (size_t page = 0; page < overlay.marks().size(); ++page) {
    for (int i = 0; i < kPageEntries; ++i) {
      if ((overlay.marks()[page] >> i & 1) != 0) {
        entries.push_back(static_cast<int>(page) * kPageEntries + i);
      }
    }
  }
  return entries;
}

TEST(ListOverlay, GivesAndMarksListedEntries) {
  PagePool pool;
  std::mt19937 random(3);
  const std::vector<int> entries = RandomSample(1000, 200, &random);
  const ListOverlay overlay = List(&pool, entries);
  const Seen seen = SeenIn(overlay.Part(0, 1000));
  EXPECT_EQ(seen.entries, entries);
  EXPECT_EQ(seen.rows, entries);
  EXPECT_EQ(Marked(overlay), entries);
  for (int i : SeenIn(overlay.Part(300, 400)).entries) {
    EXPECT_TRUE(i >= 300 && i < 400) << i;
  }
}

TEST(ListOverlay, ANewListKeepsBits) {
  PagePool pool;
  ListOverlay overlay = List(&pool, {1, 5, 70});
  const std::vector<float> other(3 * kDim, -1.0f);
  const std::vector<int> next = {5, 6, 70};
  ASSERT_TRUE(overlay.Set(next, other.data(), other.data(), {}));
  EXPECT_EQ(SeenIn(overlay.Part(0, 100)).rows, (std::vector<int>{5, -1, 70}));
}

TEST(ListOverlay, MovesWithTheEntriesOfItsHead) {
  PagePool pool;
  std::mt19937 random(4);
  ListOverlay overlay = List(&pool, RandomSample(1000, 200, &random));
  const std::vector<int> kept = RandomSample(1000, 500, &random);
  overlay.Keep(kept);
  const Seen seen = SeenIn(overlay.Part(0, 500));
  EXPECT_GT(seen.rows.size(), 50u);
  EXPECT_EQ(Marked(overlay), seen.entries);
  for (size_t i = 0; i < seen.rows.size(); ++i) {
    EXPECT_EQ(kept[seen.entries[i]], seen.rows[i]);
  }
}

// Slots keep their places in the parts of attention.
TEST(ListOverlay, EntriesLeaveInFront) {
  PagePool pool;
  std::mt19937 random(5);
  ListOverlay overlay = List(&pool, RandomSample(1000, 200, &random));
  const Seen before = SeenIn(overlay.Part(640, 1000));
  const int slot = overlay.Part(640, 1000).begin;
  overlay.DropFront(640);
  const Segment part = overlay.Part(0, 360);
  EXPECT_EQ(SeenIn(part).rows, before.rows);
  EXPECT_EQ(part.origin + part.begin, slot);
  EXPECT_LT(part.begin, kFormat.entries);
  EXPECT_EQ(Marked(overlay), SeenIn(part).entries);
  overlay.DropFront(360);
  EXPECT_TRUE(overlay.entries().empty());
  EXPECT_EQ(pool.live_bytes(), 0);
}

}  // namespace
}  // namespace pyramidkv
