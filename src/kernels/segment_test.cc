#include "kernels/segment.h"

#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr PageFormat kFormat = {8, Codec::kF32, Codec::kF32, 16};

// Two pages, of which slot 17 is not seen.
struct TwoPages {
  TwoPages() : memory(2 * kFormat.page_bytes()) {
    for (int p : {0, 1}) {
      pages.push_back(memory.data() + p * kFormat.page_bytes());
    }
    segment.format = kFormat;
    segment.pages = pages.data();
    segment.begin = 3;
    segment.end = 20;
    segment.unseen = unseen;
  }

  std::vector<std::byte> memory;
  std::vector<const std::byte*> pages;
  std::vector<uint64_t> unseen = {0, 2};
  Segment segment;
};

TEST(Segment, FindsConsecutiveEntries) {
  TwoPages two;
  Segment& s = two.segment;
  s.first_entry = -2;  // its first slots are of entries that left
  for (int entry = -2; entry < 30; ++entry) {
    const int slot = entry + 2;
    const bool seen = slot >= 3 && slot < 20 && slot != 17;
    EXPECT_EQ(s.SlotOf(entry), seen ? slot : -1) << entry;
    EXPECT_EQ(s.Sees(slot), seen) << entry;
    EXPECT_EQ(s.entry(slot), entry);
  }
}

TEST(Segment, FindsListedEntries) {
  TwoPages two;
  Segment& s = two.segment;
  std::vector<int32_t> entries;
  for (int i = 0; i < 25; ++i) entries.push_back(7 * i - 10);
  s.entries = entries.data();
  for (int entry = -10; entry < 200; ++entry) {
    const int slot = (entry + 10) / 7;
    const bool seen = (entry + 10) % 7 == 0 && s.Sees(slot);
    EXPECT_EQ(s.SlotOf(entry), seen ? slot : -1) << entry;
  }
  EXPECT_EQ(s.entry(4), 18);
}

TEST(Segment, LoadsWhatPagesHold) {
  TwoPages two;
  const std::vector<float> k = {1, 2, 3, 4, 5, 6, 7, 8}, v(8, -1.5f);
  StoreEntry(kFormat, two.memory.data() + kFormat.page_bytes(), 2, k.data(),
             v.data());
  std::vector<float> got_k(8), got_v(8);
  two.segment.Load(18, got_k.data(), got_v.data());
  EXPECT_EQ(got_k, k);
  EXPECT_EQ(got_v, v);
}

// Parts are cut at the same entries whatever was dropped in front, and whatever
// is seen; they cover what is seen once.
TEST(Segment, PartsDoNotDependOnWhatIsSeen) {
  for (int origin : {0, 64, 960, 1024, 5000 * 64}) {
    for (int begin : {0, 1, 63, 900, 1100}) {
      for (int end : {1, 64, 1023, 1025, 4000}) {
        Segment s;
        s.origin = origin;
        s.begin = begin;
        s.end = end;
        ASSERT_EQ(s.empty(), begin >= end);
        if (s.empty()) {
          EXPECT_EQ(s.parts(), 0);
          continue;
        }
        int at = begin;
        for (int p = 0; p < s.parts(); ++p) {
          EXPECT_EQ(s.part_begin(p), at);
          at = s.part_end(p);
          EXPECT_TRUE(at == end || (origin + at) % kPartSlots == 0);
          EXPECT_EQ((origin + s.part_begin(p)) / kPartSlots,
                    (origin + at - 1) / kPartSlots);
        }
        EXPECT_EQ(at, end);
      }
    }
  }
}

}  // namespace
}  // namespace pyramidkv
