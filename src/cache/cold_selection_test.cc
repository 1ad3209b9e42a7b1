#include "cache/cold_selection.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

std::vector<int32_t> Choose(const std::vector<float>& best, int group, int full,
                            double alpha, double fetch, float scale = 1) {
  std::vector<int32_t> chosen;
  const int blocks = static_cast<int>(best.size()) / group;
  ChooseBlocks({best.data(), group, blocks, scale}, full, {alpha, fetch},
               &chosen);
  return chosen;
}
using Blocks = std::vector<int32_t>;

TEST(ColdSelection, TakesWhatIsWithinAlphaOfTheBest) {
  const std::vector<float> best = {1, 5, 9, 4.9F, 10};
  EXPECT_EQ(Choose(best, 1, 5, 5, 1), (Blocks{1, 2, 4}));
  EXPECT_EQ(Choose(best, 1, 5, 10, 1), (Blocks{0, 1, 2, 3, 4}));
  EXPECT_EQ(Choose(best, 1, 5, 0, 1), (Blocks{4}));
  // alpha is in logits.
  EXPECT_EQ(Choose(best, 1, 5, 2.5, 1, 0.5F), (Blocks{1, 2, 4}));
}

TEST(ColdSelection, EachQueryHeadHasItsOwnBest) {
  const std::vector<float> best = {100, 0, 0, 0,  //
                                   0,   1, 0, 3};
  EXPECT_EQ(Choose(best, 2, 4, 2, 1), (Blocks{0, 1, 3}));
  // Distances 0, 2, 3, 0: the nearest, then the lower index.
  EXPECT_EQ(Choose(best, 2, 4, 99, 0.75), (Blocks{0, 1, 3}));
  EXPECT_EQ(Choose(best, 2, 4, 99, 0.5), (Blocks{0, 3}));
  EXPECT_EQ(Choose(best, 2, 4, 99, 0.25), (Blocks{0}));
}

TEST(ColdSelection, TheTailCountsForTheBestAlone) {
  EXPECT_EQ(Choose({1, 2, 9}, 1, 2, 7, 1), (Blocks{1}));
  EXPECT_EQ(Choose({1, 2, 99}, 1, 2, 7, 1), Blocks{});
  EXPECT_EQ(Choose({5}, 1, 0, 7, 1), Blocks{});
}

TEST(ColdSelection, TheShareIsOfFullBlocksAndAtLeastOne) {
  EXPECT_EQ(MostBlocks(0.2, 0), 0);
  EXPECT_EQ(MostBlocks(0.2, 1), 1);
  EXPECT_EQ(MostBlocks(0, 9), 1);
  EXPECT_EQ(MostBlocks(0.2, 14), 2);
  EXPECT_EQ(MostBlocks(1, 14), 14);
  for (int percent = 1; percent <= 100; ++percent) {
    for (int n = 100; n <= 100000; n *= 10) {
      ASSERT_EQ(MostBlocks(percent / 100.0, n), percent * (n / 100));
    }
  }
  EXPECT_EQ(Choose({1, 1, 1, 1}, 1, 4, 0, 0.5), (Blocks{0, 1}));
}

TEST(ColdSelection, ANanIsNoEstimate) {
  const float nan = std::nanf("");
  EXPECT_EQ(Choose({nan, 1, 2, nan}, 1, 4, 9, 1), (Blocks{1, 2}));
  EXPECT_EQ(Choose({nan, nan}, 1, 2, 9, 1), Blocks{});
}

}  // namespace
}  // namespace pyramidkv
