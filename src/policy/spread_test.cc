#include "policy/spread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

TEST(SpreadForwardTest, MaximumOfTheEntriesInFront) {
  for (int n : {0, 1, 2, 17, 64}) {
    const auto score = RandomValues(n, n);
    for (int spread : {0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 1000}) {
      std::vector<float> out(n, 7.0f);
      SpreadForward(spread, score, out);
      for (int j = 0; j < n; ++j) {
        const int first = std::max(0, j - spread);
        EXPECT_EQ(out[j], *std::max_element(score.begin() + first,
                                            score.begin() + j + 1))
            << n << " entries, spread " << spread << ", entry " << j;
      }
    }
  }
}

TEST(SpreadForwardTest, OnlyForward) {
  std::vector<float> out(6);
  SpreadForward(2, std::vector<float>{0, 0, 5, 0, 0, 0}, out);
  EXPECT_THAT(out, testing::ElementsAre(0, 0, 5, 5, 5, 0));
}

TEST(SpreadForwardTest, NanDoesNotSpread) {
  std::vector<float> out(5);
  SpreadForward(2, std::vector<float>{kNan, 1, kNan, 0, 0}, out);
  EXPECT_THAT(out, testing::ElementsAre(-kInfinity, 1, 1, 1, 0));
  SpreadForward(std::numeric_limits<int>::max(),
                std::vector<float>{kInfinity, kNan, 0, 1, 2}, out);
  EXPECT_THAT(out, testing::Each(kInfinity));
}

}  // namespace
}  // namespace pyramidkv
