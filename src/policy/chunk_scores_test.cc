#include "policy/chunk_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "policy/select.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

using Heads = std::vector<std::vector<float>>;

Heads RandomHeads(int heads, int n, uint32_t seed, bool ties) {
  Heads scores;
  for (int h = 0; h < heads; ++h) {
    scores.push_back(ties ? RandomTies(n, seed + h)
                          : RandomValues(n, seed + h));
  }
  return scores;
}

TEST(ChunkScoresTest, MeanOverTheChunkOfTheSumOverHeads) {
  for (int heads : {1, 3}) {
    for (int n : {0, 1, 19, 20, 21, 57}) {
      for (int length : {1, 2, 7, 20, 1000}) {
        const Heads before = RandomHeads(heads, n, n + length, false);
        Heads after = before;
        ChunkScores(length, after);
        for (int j = 0; j < n; ++j) {
          const int first = j / length * length;
          const int last = std::min(n, first + length);
          double sum = 0;
          for (const auto& head : before) {
            sum +=
                std::accumulate(head.begin() + first, head.begin() + last, 0.0);
          }
          for (const auto& head : after) {
            EXPECT_NEAR(head[j], sum / (last - first), 1e-6);
          }
        }
      }
    }
  }
}

// Whatever the budget, at most one chunk is cut, at its end, and all heads
// keep the same entries.
TEST(ChunkScoresTest, ChunksStayWhole) {
  const int n = 53;
  for (int length : {1, 3, 10, 20}) {
    for (uint32_t seed = 0; seed < 10; ++seed) {
      Heads scores = RandomHeads(2, n, 10 * seed, seed % 2 == 0);
      ChunkScores(length, scores);
      for (int budget = 0; budget <= n; ++budget) {
        const auto kept = SelectKept(CacheSpec{}, scores[0], n, budget);
        EXPECT_EQ(SelectKept(CacheSpec{}, scores[1], n, budget), kept);
        int cut = 0;
        for (int first = 0; first < n; first += length) {
          const int last = std::min(n, first + length);
          const auto begin = std::lower_bound(kept.begin(), kept.end(), first);
          const auto end = std::lower_bound(begin, kept.end(), last);
          const int held = static_cast<int>(end - begin);
          if (held == 0 || held == last - first) continue;
          ++cut;
          EXPECT_EQ(*(end - 1), first + held - 1);
        }
        EXPECT_LE(cut, 1) << "length " << length << ", budget " << budget;
      }
    }
  }
}

// The mean of the part at the end, not its sum over a whole chunk's length.
TEST(ChunkScoresTest, ThePartAtTheEndCompetes) {
  Heads scores = {{1, 1, 1, 1, 0, 0, 0, 0, 3}};
  ChunkScores(4, scores);
  EXPECT_THAT(scores[0], testing::ElementsAre(1, 1, 1, 1, 0, 0, 0, 0, 3));
}

TEST(ChunkScoresTest, NanAndInfinities) {
  Heads scores = {{kNan, 9, 1, 1, kInfinity, 0, kInfinity, 0},
                  {9, 9, 1, 1, 0, 0, -kInfinity, 0}};
  ChunkScores(2, scores);
  for (const auto& head : scores) {
    EXPECT_THAT(head,
                testing::ElementsAre(-kInfinity, -kInfinity, 2, 2, kInfinity,
                                     kInfinity, -kInfinity, -kInfinity));
  }
}

}  // namespace
}  // namespace pyramidkv
