#include "base/processor_loan.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using std::chrono::milliseconds;

cpu_set_t MaskOf(pthread_t thread) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  pthread_getaffinity_np(thread, sizeof(mask), &mask);
  return mask;
}

// A thread that counts, or sleeps where it is told to, until it is joined.
class Borrower {
 public:
  Borrower() : thread_([this] { Run(); }) {}
  ~Borrower() {
    stop_ = true;
    thread_.join();
  }
  pthread_t handle() { return thread_.native_handle(); }
  void Sleep() {
    sleep_ = true;
    while (!asleep_) std::this_thread::yield();
    std::this_thread::sleep_for(milliseconds(20));  // until it does
  }
  int processor() const { return processor_; }

 private:
  void Run() {
    while (!stop_) {
      processor_ = sched_getcpu();
      asleep_ = sleep_.load();
      if (asleep_) std::this_thread::sleep_for(milliseconds(200));
    }
  }
  std::atomic<bool> stop_{false}, sleep_{false}, asleep_{false};
  std::atomic<int> processor_{-1};
  std::thread thread_;
};

TEST(ProcessorLoanThreaded, TimeStandsStillWhileAThreadSleeps) {
  Borrower borrower;
  const int64_t before = ProcessorTime(borrower.handle());
  ASSERT_GE(before, 0);
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_GT(ProcessorTime(borrower.handle()), before);
  borrower.Sleep();
  const int64_t asleep = ProcessorTime(borrower.handle());
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(ProcessorTime(borrower.handle()), asleep);
}

TEST(ProcessorLoanThreaded, TheBorrowerRunsHereAndGoesBack) {
  Borrower borrower;
  const cpu_set_t own = MaskOf(borrower.handle());
  if (CPU_COUNT(&own) < 2) GTEST_SKIP() << "one processor";
  for (int round = 0; round < 20; ++round) {
    {
      const ProcessorLoan loan(borrower.handle());
      ASSERT_GE(loan.processor(), 0);
      const cpu_set_t lent = MaskOf(borrower.handle());
      EXPECT_EQ(CPU_COUNT(&lent), 1);
      EXPECT_TRUE(CPU_ISSET(loan.processor(), &lent));
      std::this_thread::sleep_for(milliseconds(5));
      EXPECT_EQ(borrower.processor(), loan.processor());
    }
    const cpu_set_t after = MaskOf(borrower.handle());
    EXPECT_TRUE(CPU_EQUAL(&after, &own));
  }
}

TEST(ProcessorLoanThreaded, AMaskOfOneProcessorStays) {
  Borrower borrower;
  cpu_set_t one;
  CPU_ZERO(&one);
  const cpu_set_t own = MaskOf(borrower.handle());
  int first = 0;
  while (!CPU_ISSET(first, &own)) ++first;
  CPU_SET(first, &one);
  pthread_setaffinity_np(borrower.handle(), sizeof(one), &one);
  {
    const ProcessorLoan loan(borrower.handle());
    EXPECT_EQ(loan.processor(), -1);
  }
  const cpu_set_t after = MaskOf(borrower.handle());
  EXPECT_TRUE(CPU_EQUAL(&after, &one));
}

}  // namespace
}  // namespace pyramidkv
