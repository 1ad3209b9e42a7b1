// Whichever thread steps an engine, it starts no threads beside the engine's,
// and keeps its own number of OpenMP threads.

#include <omp.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <thread>

#include "runtime/testing/batch_requests.h"

namespace pyramidkv {
namespace {

int ThreadsOfThisProcess() {
  return static_cast<int>(
      std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                    std::filesystem::directory_iterator()));
}

class SteppingThreadThreadedTest : public testing::TestWithParam<Compute> {};

TEST_P(SteppingThreadThreadedTest, StartsNoOthers) {
  TinyGgufOptions options;
  options.context_length = 1024;
  const int mine = omp_get_max_threads();
  const auto engine = TinyEngine(options, 2, GetParam());
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(omp_get_max_threads(), mine);
  std::thread([&] {
    omp_set_num_threads(7);
    const int before = ThreadsOfThisProcess();
    Wish wish;
    wish.prompt = RandomTokens(500, options.vocabulary, 1);
    wish.generate.max_tokens = 3;
    for (const char* kv : {"full", "expected-attention,keep=0.3",
                           "r-kv,keep=0.3", "kvzip,keep=0.3"}) {
      wish.kv = kv;
      auto batch = MakeBatch(engine.get());
      EXPECT_TRUE(batch->Submit(RequestOf(wish)).ok());
      while (batch->Step()) {
      }
      EXPECT_EQ(ThreadsOfThisProcess(), before) << kv;
      Alone(engine.get(), wish);
      EXPECT_EQ(ThreadsOfThisProcess(), before) << kv;
    }
    EXPECT_EQ(omp_get_max_threads(), 7);
  }).join();
}

INSTANTIATE_TEST_SUITE_P(Computes, SteppingThreadThreadedTest,
                         testing::Values(Compute::kF32, Compute::kBf16));

}  // namespace
}  // namespace pyramidkv
