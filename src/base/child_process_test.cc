#include "base/child_process.h"

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using Kind = ChildOutcome::Kind;

TEST(ChildProcessTest, GivesWhatTheWorkReturns) {
  std::string large(3 << 20, 'x');
  const ChildOutcome outcome = RunInChild({}, [&] { return large; });
  EXPECT_EQ(outcome.kind, Kind::kOutput);
  EXPECT_EQ(outcome.text, large);
  EXPECT_EQ(RunInChild({}, [] { return std::string(); }).kind, Kind::kOutput);
}

TEST(ChildProcessTest, GivesExceptions) {
  const ChildOutcome outcome = RunInChild(
      {}, []() -> std::string { throw std::runtime_error("broken"); });
  EXPECT_EQ(outcome.kind, Kind::kThrown);
  EXPECT_EQ(outcome.text, "broken");
}

TEST(ChildProcessTest, StopsAtEachBound) {
  ChildLimits limits;
  limits.cpu_seconds = 0.2;
  ChildOutcome outcome = RunInChild(limits, []() -> std::string {
    for (volatile int i = 0;;) {
      i = 1 - i;
    }
  });
  EXPECT_EQ(outcome.kind, Kind::kLimit);
  EXPECT_EQ(outcome.text, "more than 0.2 s of CPU time");
  outcome = RunInChild(limits, []() -> std::string { throw std::bad_alloc(); });
  EXPECT_EQ(outcome.text, "more than 512 MiB of memory");
  limits.output_bytes = 9;
  outcome = RunInChild(limits, [] { return std::string(10, 'x'); });
  EXPECT_EQ(outcome.text, "more than 0 MiB of output");
  outcome = RunInChild(limits, []() -> std::string { std::abort(); });
  EXPECT_EQ(outcome.kind, Kind::kLimit);
}

TEST(ChildProcessThreadedTest, ManyAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 20; ++i) {
        std::string text = std::to_string(t * 100 + i);
        EXPECT_EQ(RunInChild({}, [&] { return text; }).text, text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace pyramidkv
