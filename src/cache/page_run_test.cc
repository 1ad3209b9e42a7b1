#include "cache/page_run.h"

#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "cache/testing/random_sample.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 8;

// Slot i of a run says so, exactly in every codec.
std::vector<float> RowOf(int i) {
  return std::vector<float>(kDim, static_cast<float>(i % 100));
}

PageRun Filled(PagePool* pool, int entries, int slots) {
  PageRun run(pool, {kDim, Codec::kF16, Codec::kF32, entries});
  EXPECT_TRUE(run.Reserve(slots));
  run.Add(slots);
  for (int i = 0; i < slots; ++i) {
    run.Store(i, RowOf(i).data(), RowOf(i + 1).data());
  }
  return run;
}

void ExpectSlots(const PageRun& run, const std::vector<int>& of) {
  ASSERT_EQ(run.size(), static_cast<int>(of.size()));
  std::vector<float> k(kDim), v(kDim);
  const int entries = run.format().entries;
  for (int i = 0; i < run.size(); ++i) {
    LoadEntry(run.format(), run.pages()[i / entries], i % entries, k.data(),
              v.data());
    ASSERT_EQ(k, RowOf(of[i])) << i;
    ASSERT_EQ(v, RowOf(of[i] + 1)) << i;
  }
}

std::vector<int> Range(int begin, int end) {
  std::vector<int> range(end - begin);
  std::iota(range.begin(), range.end(), begin);
  return range;
}

class PageRuns : public testing::TestWithParam<int> {
 protected:
  int pages(int slots) const { return (slots + GetParam() - 1) / GetParam(); }
  int64_t live(const PageRun& run, int pages) const {
    return static_cast<int64_t>(pages * run.format().page_bytes());
  }
  PagePool pool_;
};

TEST_P(PageRuns, HavePagesForTheirSlotsAlone) {
  PageRun run = Filled(&pool_, GetParam(), 200);
  EXPECT_EQ(pool_.live_bytes(), live(run, pages(200)));
  EXPECT_EQ(run.bytes(), static_cast<size_t>(pool_.live_bytes()));
  ASSERT_TRUE(run.Reserve(300));
  EXPECT_EQ(pool_.live_bytes(), live(run, pages(300)));
  run.Shrink(65);
  EXPECT_EQ(pool_.live_bytes(), live(run, pages(65)));
  ExpectSlots(run, Range(0, 65));
  run.DropFront(1);
  ExpectSlots(run, Range(GetParam(), 65));
  run.DropFront(pages(65) - 1);
  EXPECT_EQ(run.size(), 0);
  EXPECT_EQ(pool_.live_bytes(), 0);
}

TEST_P(PageRuns, KeepWhatIsListed) {
  std::mt19937 random(1);
  PageRun run = Filled(&pool_, GetParam(), 500);
  std::vector<int> want = Range(0, 500);
  while (run.size() > 0) {
    const int n = run.size();
    const auto kept = RandomSample(n, static_cast<int>(random() % n), &random);
    for (size_t i = 0; i < kept.size(); ++i) want[i] = want[kept[i]];
    want.resize(kept.size());
    ASSERT_TRUE(run.Keep(kept));
    ExpectSlots(run, want);
    EXPECT_EQ(pool_.live_bytes(), live(run, pages(run.size())));
  }
}

// A page is copied when one side writes into it, and not before.
TEST_P(PageRuns, CopiesShareUntilOneWrites) {
  PageRun run = Filled(&pool_, GetParam(), 200);
  PageRun copy = run;
  EXPECT_EQ(pool_.live_bytes(), live(run, pages(200)));
  ASSERT_TRUE(copy.Reserve(201));
  copy.Add(1);
  copy.Store(200, RowOf(7).data(), RowOf(8).data());
  EXPECT_EQ(pool_.live_bytes(), live(run, pages(200) + 1));
  ExpectSlots(run, Range(0, 200));

  std::vector<int> kept = Range(0, 201);
  kept.erase(kept.begin() + 150);
  ASSERT_TRUE(copy.Keep(kept));
  EXPECT_EQ(copy.pages()[0], run.pages()[0]);  // nothing in it moves
  EXPECT_NE(copy.pages()[150 / GetParam()], run.pages()[150 / GetParam()]);
  ExpectSlots(run, Range(0, 200));
  kept.back() = 7;
  ExpectSlots(copy, kept);

  PageRun own = copy;
  ASSERT_TRUE(own.MakeOwn());
  for (size_t p = 0; p < own.pages().size(); ++p) {
    EXPECT_NE(own.pages()[p], copy.pages()[p]);
  }
  ExpectSlots(own, kept);
}

TEST_P(PageRuns, MoveAndEnd) {
  PageRun run = Filled(&pool_, GetParam(), 100);
  const int64_t before = pool_.live_bytes();
  PageRun moved = std::move(run);
  EXPECT_EQ(pool_.live_bytes(), before);
  ExpectSlots(moved, Range(0, 100));
  moved = Filled(&pool_, GetParam(), 10);
  EXPECT_EQ(pool_.live_bytes(), live(moved, pages(10)));
  moved = moved.Empty();
  EXPECT_EQ(pool_.live_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Entries, PageRuns, testing::Values(16, 64));

// Pages of 8 GiB: the address space ends before the slots do.
TEST(PageRun, WithoutMemoryNothingChanges) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer ends the program instead";
#endif
  PagePool pool;
  PageRun run(&pool, {1 << 24, Codec::kF32, Codec::kF32, kPageEntries});
  ASSERT_TRUE(run.Reserve(1));
  run.Add(1);
  const int64_t before = pool.live_bytes();
  EXPECT_FALSE(run.Reserve(17000 * kPageEntries));
  EXPECT_EQ(run.size(), 1);
  EXPECT_EQ(pool.live_bytes(), before);
}

}  // namespace
}  // namespace pyramidkv
