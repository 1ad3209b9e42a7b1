#include "base/thread_pool.h"

#include <atomic>
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
    ThreadPool pool(3, [&](int worker) { runs += 1 << (8 * worker); });
  }
  EXPECT_EQ(runs, 0x010101);
}

// Jobs of all sizes from frames that are gone when a late worker comes: what
// it takes must be of the job that runs now, and each item is done once.
TEST(ThreadPoolThreaded, LateWorkersTakeItemsOfTheRunningJobAlone) {
  constexpr int kThreads = 4, kJobs = 3000;
  ThreadPool pool(kThreads);
  std::atomic<int> strangers{0};
  for (int job = 0; job < kJobs; ++job) {
    const int count = job % 23;
    std::vector<int> hits(count, 0);
    const auto task = [&, job](int i, int worker) {
      if (i < 0 || i >= count || worker < 0 || worker >= kThreads) ++strangers;
      ++hits[i];
      if ((job * 7 + i) % 211 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
    };
    if (job % 2 == 0) {
      pool.ParallelFor(count, task);
    } else {
      pool.ParallelRanges(count, task);
    }
    for (const int h : hits) ASSERT_EQ(h, 1) << "job " << job;
  }
  EXPECT_EQ(strangers, 0);
}

// A worker that never gets a processor: its init does not return. All items
// are done by the caller, in time.
TEST(ThreadPoolThreaded, AWorkerThatDoesNotRunDelaysNothing) {
  std::atomic<bool> release{false};
  ThreadPool pool(3, [&](int worker) {
    while (worker == 2 && !release) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> hits(50);
    const auto task = [&](int i, int worker) {
      EXPECT_NE(worker, 2);
      ++hits[i];
    };
    pool.ParallelFor(50, task);
    pool.ParallelRanges(50, task);
    for (const std::atomic<int>& h : hits) ASSERT_EQ(h, 2);
  }
  release = true;  // and the destructor finds all workers
}

// The caller sleeps on the last item, which takes far longer than it spins.
TEST(ThreadPoolThreaded, TheCallerWaitsForAnItemInTheMiddle) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> begun{false}, ended{false};
    pool.ParallelRanges(2, [&](int, int worker) {
      if (worker == 0) {  // leaves the other item to worker 1
        while (!begun) std::this_thread::yield();
        return;
      }
      begun = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      ended = true;
    });
    EXPECT_TRUE(ended);
  }
}

TEST(ThreadPoolThreaded, ItemsOfOneWorkerComeInOrder) {
  ThreadPool pool(3);
  std::vector<int> last(3, -1);
  std::atomic<int> disorder{0};
  pool.ParallelFor(5000, [&](int i, int worker) {
    if (i <= last[worker]) ++disorder;
    last[worker] = i;
  });
  EXPECT_EQ(disorder, 0);
}

TEST(ThreadPoolThreaded, EndsWhileWorkersSpinAndWhileTheySleep) {
  for (int round = 0; round < 30; ++round) {
    ThreadPool pool(3);
    std::atomic<int> sum{0};
    if (round % 3 > 0) pool.ParallelFor(8, [&](int i, int) { sum += i; });
    EXPECT_EQ(sum, round % 3 > 0 ? 28 : 0);
    if (round % 2 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

}  // namespace
}  // namespace pyramidkv
