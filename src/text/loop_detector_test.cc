#include "text/loop_detector.h"

#include <random>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

// The number of tokens after which a loop is seen, or -1.
int SeenAfter(const std::vector<int>& tokens) {
  LoopDetector detector;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (detector.Add(tokens[i])) return static_cast<int>(i) + 1;
  }
  return -1;
}

std::vector<int> Random(int count, int seed) {
  std::mt19937 random(seed);
  std::vector<int> tokens(count);
  for (int& token : tokens) token = static_cast<int>(random() % 1000);
  return tokens;
}

std::vector<int> Repeated(std::vector<int> start, const std::vector<int>& part,
                          int times) {
  for (int i = 0; i < times; ++i) {
    start.insert(start.end(), part.begin(), part.end());
  }
  return start;
}

TEST(LoopDetector, SeesEveryPeriodWhenItIsLongEnough) {
  for (int period = 1; period <= LoopDetector::kLongestPeriod; ++period) {
    const std::vector<int> text =
        Repeated(Random(57, period), Random(period, 1000 + period), 200);
    const int expected = 57 + std::max(LoopDetector::kLeastTokens,
                                       LoopDetector::kLeastTurns * period);
    // A random token before may happen to fit.
    EXPECT_LE(SeenAfter(text), expected) << period;
    EXPECT_GE(SeenAfter(text), expected - 2) << period;
  }
}

TEST(LoopDetector, LetsOtherTextsPass) {
  for (int seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(SeenAfter(Random(3000, seed)), -1);
    // A refrain between verses, and the same line three times.
    std::vector<int> song;
    for (int verse = 0; verse < 20; ++verse) {
      const std::vector<int> line = Random(30, 5000 + seed);
      song = Repeated(std::move(song), Random(80, 100 * seed + verse), 1);
      song = Repeated(std::move(song), line, 3);
    }
    EXPECT_EQ(SeenAfter(song), -1);
    // A list whose items differ in a number alone.
    std::vector<int> list;
    for (int item = 0; item < 300; ++item) {
      list.push_back(item);
      list = Repeated(std::move(list), Random(12, seed), 1);
    }
    EXPECT_EQ(SeenAfter(list), -1);
  }
  // A ruler of 100 dashes and an empty row of a wide table.
  EXPECT_EQ(SeenAfter(Repeated({7}, {1}, 100)), -1);
  EXPECT_EQ(SeenAfter(Repeated({7}, {1, 2}, 60)), -1);
}

TEST(LoopDetector, ALoopIsSeenOnceItsInterruptionIsPast) {
  std::vector<int> text = Repeated({}, {1, 2, 3}, 40);
  text.push_back(9);
  EXPECT_EQ(SeenAfter(text), -1);
  text = Repeated(std::move(text), {1, 2, 3}, 43);
  EXPECT_EQ(SeenAfter(text), 121 + LoopDetector::kLeastTokens);
}

}  // namespace
}  // namespace pyramidkv
