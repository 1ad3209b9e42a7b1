#include "base/thread_pool.h"

#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

TEST(ThreadPoolThreaded, EveryItemOnce) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int count : {0, 1, 2, 5, 100, 1000}) {
      std::vector<int> hits(count, 0);
      pool.ParallelFor(count, [&](int i, int) { ++hits[i]; });
      for (int h : hits) EXPECT_EQ(h, 1);
      pool.ParallelRanges(count, [&](int i, int) { ++hits[i]; });
      for (int h : hits) EXPECT_EQ(h, 2);
    }
  }
}

// Who is done with its own range helps whoever is not.
TEST(ThreadPoolThreaded, RangesAreShared) {
  using std::chrono::milliseconds;
  ThreadPool pool(2);
  std::atomic<int> others{0};
  std::atomic<bool> stuck{false};
  pool.ParallelRanges(100, [&](int, int) {
    if (!stuck.exchange(true)) {  // one item waits for all the others
      const auto end = std::chrono::steady_clock::now() + milliseconds(10000);
      while (others < 99 && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(milliseconds(1));
      }
    } else {
      ++others;
    }
  });
  EXPECT_EQ(others, 99);
}

TEST(ThreadPoolThreaded, WorkerIdsAreUniqueAmongRunningCalls) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<bool> clash{false};
  pool.ParallelFor(2000, [&](int, int worker) {
    if (busy[worker].fetch_add(1) != 0) clash = true;
    busy[worker].fetch_sub(1);
  });
  EXPECT_FALSE(clash);
}

TEST(ThreadPoolThreaded, WakesUpAfterSleep) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    std::atomic<int> sum{0};
    pool.ParallelFor(64, [&](int i, int) { sum += i; });
    EXPECT_EQ(sum, 64 * 63 / 2);
  }
}

TEST(ThreadPoolThreaded, ManySmallJobs) {
  ThreadPool pool(2);
  int64_t total = 0;
  std::vector<int> values(2);
  for (int round = 0; round < 2000; ++round) {
    pool.ParallelFor(2, [&](int i, int) { values[i] = round + i; });
    total += values[0] + values[1];
  }
  EXPECT_EQ(total, 2000LL * 1999 + 2000);
}

TEST(ThreadPoolThreaded, InitRunsInEveryThread) {
  std::atomic<int> runs{0};
  {
    ThreadPool pool(3, [&] { ++runs; });
  }
  EXPECT_EQ(runs, 3);
}

}  // namespace
}  // namespace pyramidkv
