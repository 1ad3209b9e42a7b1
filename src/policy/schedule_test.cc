#include "policy/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

CacheSpec Spec(const std::string& text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

// The keys' promise: below `from` everything, from there on what keep says.
TEST(ScheduleFromTest, NothingLeavesBefore) {
  const CacheSpec spec = Spec("pyramidkv,keep=0.25,from=100");
  BudgetRequest r = {.layers = 3, .kv_heads = 2, .tokens = 99};
  r.keeps_all = true;
  EXPECT_EQ(ResolveBudgets(spec, r)->entries, std::vector<int>(6, 99));
  r.keeps_all = false;
  r.tokens = 100;
  EXPECT_EQ(ResolveBudgets(spec, r)->total, 33 * 6);  // the protected ones
}

TEST(ScheduleFromTest, ListsAreCheckedAtOnce) {
  BudgetRequest r = {.layers = 3, .kv_heads = 2, .tokens = 5};
  r.keeps_all = true;
  const auto budgets =
      ResolveBudgets(Spec("snapkv,schedule=custom,budgets=5:6,from=100"), r);
  EXPECT_THAT(budgets.status().message(), HasSubstr("lists 2 layers"));
}

struct Case {
  const char* spec;
  int layers, kv_heads, tokens;
  std::vector<int> want;  // [layers, kv_heads]
};

class ScheduleTest : public testing::TestWithParam<Case> {};

TEST_P(ScheduleTest, Resolves) {
  const Case& c = GetParam();
  const Result<Budgets> b = ResolveBudgets(
      Spec(c.spec),
      {.layers = c.layers, .kv_heads = c.kv_heads, .tokens = c.tokens});
  ASSERT_TRUE(b.ok()) << b.status().message();
  EXPECT_EQ(b->entries, c.want) << c.spec;
  EXPECT_EQ(b->total,
            std::accumulate(c.want.begin(), c.want.end(), int64_t{0}));
}

const Case kCases[] = {
    {"full", 2, 2, 9, {9, 9, 9, 9}},
    {"full,sliding_window=5", 1, 2, 9, {5, 5}},
    // 0.5 * 3 * 1 * 333 = 499.5, rounded up; lower layers first.
    {"snapkv,keep=0.5", 3, 1, 333, {167, 167, 166}},
    {"snapkv,tokens=100", 2, 3, 1000, {100, 100, 100, 100, 100, 100}},
    {"snapkv,tokens=100", 2, 1, 60, {60, 60}},  // at most everything
    // floor(n * share): formulas without a budget.
    {"snapkv,schedule=linear,ratio=0.5",
     3,
     2,
     1001,
     {1001, 1001, 750, 750, 500, 500}},
    {"snapkv,schedule=linear", 1, 1, 500, {500}},
    {"snapkv,schedule=linear,ratio=0", 3, 1, 300, {300, 150, 64}},
    {"snapkv,schedule=power,ratio=0.75,exponent=0.5",
     3,
     1,
     400,
     {400, 346, 282}},
    {"snapkv,schedule=power,ratio=1,exponent=2,recent=0",
     4,
     1,
     200,
     {200, 112, 50, 16}},
    {"snapkv,schedule=table,table=0:1/0.5:0.6/1:0.2",
     5,
     1,
     1000,
     {1000, 800, 600, 400, 200}},
    {"snapkv,schedule=table", 6, 1, 1000, {1000, 800, 600, 400, 250, 150}},
    {"snapkv,schedule=custom,budgets=90:50:40", 3, 1, 60, {60, 50, 40}},
    {"snapkv,schedule=custom,budgets=90:50:4", 3, 1, 60, {60, 50, 33}},
    // The description's own configuration: a first tenth in full, at least 64.
    {"llama", 10, 1, 90, {90, 85, 80, 75, 70, 65, 64, 64, 64, 64}},
    {"llama,warmup=0.2,min=1,ratio=0.1", 5, 1, 100, {100, 77, 55, 32, 10}},
    {"mistral", 3, 1, 200, {200, 140, 128}},
    {"mistral", 3, 1, 100000, {4096, 2867, 1638}},  // inside the window
    {"mistral,sliding_window=0", 2, 1, 10000, {10000, 4000}},
    // Scaled curves: shares 1, 0.75, 0.5 of a mean of 75.
    {"snapkv,schedule=linear,tokens=75,min=1", 3, 1, 1000, {100, 75, 50}},
    {"snapkv,schedule=linear,tokens=750,min=1", 3, 1, 1000, {1000, 750, 500}},
    // Two layers at the cap; what they cannot take goes to the third.
    {"snapkv,schedule=linear,tokens=950,min=1", 3, 1, 1000, {1000, 1000, 850}},
    // min=64 binds in the last layer and the others give.
    {"snapkv,schedule=linear,ratio=0.2,tokens=100", 3, 1, 1000, {148, 88, 64}},
    {"snapkv,schedule=custom,budgets=3:2:1,tokens=100",
     3,
     1,
     1000,
     {150, 100, 50}},
    {"snapkv,schedule=uniform,warmup=0.34,tokens=200",
     3,
     1,
     300,
     {300, 150, 150}},
    // 10 over 2 layers and 3 heads: one layer takes what 3 does not divide.
    {"snapkv,recent=0,keep=0.1667", 2, 3, 10, {2, 2, 2, 2, 1, 1}},
    {"snapkv,keep=1,schedule=power,ratio=1", 3, 2, 7, {7, 7, 7, 7, 7, 7}},
    {"snapkv,keep=1", 2, 1, 1, {1, 1}},
};

INSTANTIATE_TEST_SUITE_P(All, ScheduleTest, testing::ValuesIn(kCases));

TEST(ScheduleLimitsTest, KeepBelowTheFloorsIsRaisedWithAWarning) {
  const BudgetRequest r = {.layers = 4, .kv_heads = 2, .tokens = 1000};
  const auto b = ResolveBudgets(Spec("snapkv,keep=0.01"), r);
  ASSERT_TRUE(b.ok());
  EXPECT_EQ(b->entries, std::vector<int>(8, 33));  // window and one to choose
  ASSERT_EQ(b->warnings.size(), 1u);
  EXPECT_THAT(b->warnings[0], HasSubstr("keep=0.01"));
  EXPECT_THAT(b->warnings[0], HasSubstr("33 entries"));
  // Never above the prompt, and no warning where nothing was changed.
  const auto small = ResolveBudgets(Spec("snapkv,keep=1"),
                                    {.layers = 4, .kv_heads = 2, .tokens = 9});
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(small->entries, std::vector<int>(8, 9));
  EXPECT_TRUE(small->warnings.empty());
}

TEST(ScheduleLimitsTest, TokensBelowTheLeastNamesIt) {
  const BudgetRequest r = {.layers = 4, .kv_heads = 2, .tokens = 1000};
  const auto b = ResolveBudgets(Spec("snapkv,tokens=32"), r);
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.status().code(), StatusCode::kDoesNotFit);
  EXPECT_THAT(b.status().message(), HasSubstr("tokens=33"));
  EXPECT_TRUE(ResolveBudgets(Spec("snapkv,tokens=33"), r).ok());

  // One warm layer of three: (1000 + 64 + 64) / 3 = 376.
  const CacheSpec llama = Spec("llama,warmup=0.34,tokens=375");
  const BudgetRequest three = {.layers = 3, .kv_heads = 1, .tokens = 1000};
  const auto warm = ResolveBudgets(llama, three);
  ASSERT_FALSE(warm.ok());
  EXPECT_THAT(warm.status().message(), HasSubstr("tokens=376"));

  const auto reference =
      ResolveBudgets(Spec("pyramidkv,mode=reference,tokens=32"), r);
  ASSERT_FALSE(reference.ok());
  EXPECT_EQ(reference.status().code(), StatusCode::kDoesNotFit);
  EXPECT_THAT(reference.status().message(), HasSubstr("tokens=33"));
}

TEST(ScheduleLimitsTest, MemoryIsWholePagesAndPositions) {
  // Pages of 64 entries x 16 bytes = 1,024; 64 positions of 4 bytes with
  // each.
  BudgetRequest r = {
      .layers = 2, .kv_heads = 1, .tokens = 640, .page_bytes = 1024};
  const auto entries = [&](int64_t memory) {
    const auto b =
        ResolveBudgets(Spec("snapkv,memory=" + std::to_string(memory)), r);
    return b.ok() ? b->entries : std::vector<int>{};
  };
  EXPECT_THAT(entries(2 * 10 * 1024), ElementsAre(640, 640));  // no positions
  EXPECT_THAT(entries(2 * (1024 + 64 * 4)), ElementsAre(64, 64));
  EXPECT_THAT(entries(2 * (1024 + 64 * 4) - 1), ElementsAre());
  // The third page goes to one head alone, and is filled.
  EXPECT_THAT(entries(3 * (1024 + 64 * 4) - 1), ElementsAre(64, 64));
  EXPECT_THAT(entries(3 * (1024 + 64 * 4)), ElementsAre(65, 64));
  r.reserve_tokens = 30;  // positions of these are stored as well
  EXPECT_THAT(entries(2 * (1024 + 64 * 4)), ElementsAre(34, 34));
  r.other_bytes = 500;
  EXPECT_THAT(entries(2 * (1024 + 64 * 4) + 500), ElementsAre(34, 34));

  const int64_t least = 2 * (1024 + 64 * 4) + 500;  // 33 + 30 slots a head
  EXPECT_THAT(entries(least), ElementsAre(34, 34));
  const auto b =
      ResolveBudgets(Spec("snapkv,memory=" + std::to_string(least - 1)), r);
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.status().code(), StatusCode::kDoesNotFit);
  EXPECT_THAT(b.status().message(), HasSubstr("memory=3KiB"));  // 3,060 bytes
}

TEST(ScheduleLimitsTest, PlainErrors) {
  const BudgetRequest r = {.layers = 4, .kv_heads = 2, .tokens = 1000};
  CacheSpec no_budget = Spec("snapkv,keep=0.5");
  no_budget.budget.keep.reset();
  const auto none = ResolveBudgets(no_budget, r);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), StatusCode::kUsage);
  EXPECT_THAT(none.status().message(), HasSubstr("needs a budget"));
  const auto custom =
      ResolveBudgets(Spec("snapkv,schedule=custom,budgets=90:80"), r);
  ASSERT_FALSE(custom.ok());
  EXPECT_EQ(custom.status().code(), StatusCode::kUsage);
  EXPECT_THAT(custom.status().message(), HasSubstr("lists 2 layers"));
  EXPECT_THAT(custom.status().message(), HasSubstr("has 4"));
}

TEST(ScheduleLimitsTest, NothingToCompress) {
  const auto b = ResolveBudgets(Spec("snapkv,keep=0.5"),
                                {.layers = 0, .kv_heads = 2, .tokens = 10});
  ASSERT_TRUE(b.ok());
  EXPECT_TRUE(b->entries.empty());
  EXPECT_EQ(b->total, 0);
}

TEST(LeastEntriesTest, ProtectedAndOneToChoose) {
  EXPECT_EQ(LeastEntries(Spec("full")), 1);
  EXPECT_EQ(LeastEntries(Spec("snapkv,keep=0.5")), 33);
  EXPECT_EQ(LeastEntries(Spec("snapkv-wide,keep=0.5")), 21);
  EXPECT_EQ(LeastEntries(Spec("llama")), 9);
  EXPECT_EQ(LeastEntries(Spec("llama,select=recent")), 5);
}

}  // namespace
}  // namespace pyramidkv
