#include "cli/text_format.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::HasSubstr;

TEST(BarTest, RoundsAndClamps) {
  EXPECT_EQ(Bar(0, 4), "....");
  EXPECT_EQ(Bar(0.5, 4), "##..");
  EXPECT_EQ(Bar(1, 4), "####");
  EXPECT_EQ(Bar(7, 4), "####");
  EXPECT_EQ(Bar(-1, 4), "....");
  EXPECT_EQ(Bar(std::nan(""), 4), "....");
}

TEST(NumbersTest, Units) {
  EXPECT_EQ(MiB(0), "0.00 MiB");
  EXPECT_EQ(MiB(5 << 20), "5.00 MiB");
  EXPECT_EQ(MiB(180 << 20), "180.0 MiB");
  EXPECT_EQ(Percent(0.305), "30.5 %");
  EXPECT_EQ(Share(1, 0), 0);
}

TEST(TableTest, Aligned) {
  EXPECT_EQ(
      AlignedTable({{"a", "b"}, {"10", "x"}, {"1", "long"}}, {false, true}),
      " a  b\n10  x\n 1  long\n");
}

TEST(TableTest, Markdown) {
  EXPECT_EQ(MarkdownTable({{"kv", "n"}, {"full", "1"}}),
            "| kv | n |\n|---|--:|\n| full | 1 |\n");
}

TEST(TableTest, CsvQuotesCommas) {
  EXPECT_EQ(CsvTable({{"spec", "n"}, {"snapkv,keep=0.3", "1"}, {"\"", ""}}),
            "spec,n\n\"snapkv,keep=0.3\",1\n\"\"\"\",\n");
}

TEST(PlanTableTest, JoinsEqualLayersAndNamesWindows) {
  PlanDims dims = {.layers = 4,
                   .kv_heads = 1,
                   .head_dim = 64,
                   .tokens = 100,
                   .sequences = 1,
                   .sliding_window = 10,
                   .window_layers = {}};
  CachePlan plan;
  plan.spec = "full";
  plan.layers = {{0, 100, 1}, {1, 100, 1}, {2, std::nullopt, 1}, {3, 50, 1}};
  const std::string table = PlanTable(dims, {plan});
  EXPECT_THAT(table, HasSubstr("\n  0-1      100 ####################\n"));
  EXPECT_THAT(table, HasSubstr("\n    2  window 10\n"));
  EXPECT_THAT(table, HasSubstr("\n    3       50 ##########..........\n"));
  EXPECT_THAT(table, testing::Not(HasSubstr("cold")));
  plan.tier = PlanTier{10, 3 << 20, 1 << 20, 0};
  const std::string tier = PlanTable(dims, {plan});
  EXPECT_THAT(tier, HasSubstr("of which cold"));
  EXPECT_THAT(tier, HasSubstr("1.00 MiB"));
  EXPECT_THAT(tier, testing::Not(HasSubstr("on disk")));
}

}  // namespace
}  // namespace pyramidkv::cli
