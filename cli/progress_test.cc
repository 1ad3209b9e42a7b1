#include "cli/progress.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ProgressLineTest, AllOfItOnAWideTerminal) {
  EXPECT_EQ(ProgressLine({"reading", 0.5, 2000, "tokens", 12.2}, 120),
            "reading ###############............... "
            " 50 %  1000/2000 tokens  13 s left");
  EXPECT_EQ(ProgressLine({"reading", 0.1, 0, "", std::nullopt}, 120),
            "reading ###...........................  10 %");
}

TEST(ProgressLineTest, CountAndTimeAt40Columns) {
  const std::string line =
      ProgressLine({"reading", 0.5, 2000, "tokens", 12.2}, 40);
  EXPECT_THAT(line, HasSubstr("1000/2000"));
  EXPECT_THAT(line, HasSubstr("13 s left"));
  EXPECT_THAT(line, HasSubstr("##"));  // and the bar
  EXPECT_LT(line.size(), 40u);
}

TEST(ProgressLineTest, NeverReachesTheLastColumn) {
  for (int width = 1; width < 130; ++width) {
    for (const double share : {0.0, 0.07, 1.0}) {
      for (const int64_t count : {int64_t{0}, int64_t{7}, int64_t{131072}}) {
        const std::string line =
            ProgressLine({"measuring", share, count, "tokens", 4000}, width);
        EXPECT_LT(static_cast<int>(line.size()), width) << line;
      }
    }
  }
}

TEST(ProgressLineTest, StandsStillWhileItCounts) {
  EXPECT_EQ(ProgressLine({"eval", 0.05, 100, "trials", 5}, 80).size(),
            ProgressLine({"eval", 0.95, 100, "trials", 5}, 80).size());
}

TEST(DurationTest, SecondsMinutesHours) {
  EXPECT_EQ(Duration(0), "0 s");
  EXPECT_EQ(Duration(59.2), "1:00");
  EXPECT_EQ(Duration(125), "2:05");
  EXPECT_EQ(Duration(3725), "1:02:05");
  EXPECT_EQ(Duration(1e12), "99:59:59");
}

}  // namespace
}  // namespace pyramidkv::cli
