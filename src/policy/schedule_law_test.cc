// Promises of every schedule, over random specs and sizes.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "policy/schedule.h"

namespace pyramidkv {
namespace {

struct Trial {
  std::string text;  // without a budget
  BudgetRequest r;
};

class Trials {
 public:
  explicit Trials(uint32_t seed) : rng_(seed) {}

  Trial Next() {
    Trial t;
    t.r.layers = 1 + Below(50);
    t.r.kv_heads = 1 + Below(8);
    t.r.tokens = Below(4) == 0 ? 1 + Below(100) : 1 + Below(9000);
    t.r.page_bytes = 64 * 256;
    t.r.reserve_tokens = Below(3) == 0 ? Below(200) : 0;
    t.r.other_bytes = Below(3) == 0 ? Below(100000) : 0;
    t.text = Schedule(t.r.layers);
    const int select = Below(3);
    t.text += select == 0 ? ",select=mixed" : select == 1 ? ",recent=5" : "";
    t.text += fmt::format(",sinks={}", Below(3) * 4);
    if (Below(3) == 0) t.text += fmt::format(",min={}", 1 + Below(200));
    if (Below(3) == 0) t.text += fmt::format(",warmup={:.2f}", Unit() * 0.5);
    return t;
  }

  int Below(int n) { return static_cast<int>(rng_() % n); }
  double Unit() { return rng_() / 4294967296.0; }

 private:
  std::string Schedule(int layers) {
    switch (Below(6)) {
      case 0:
        return "snapkv";
      case 1:
        return fmt::format("snapkv,schedule=linear,ratio={:.3f}", Unit());
      case 2:
        return fmt::format("snapkv,schedule=power,ratio={:.3f},exponent={:.3f}",
                           Unit(), 0.1 + 2 * Unit());
      case 3:
        return fmt::format("snapkv,schedule=table,table=0:1/{:.3f}:0.3/1:0",
                           0.1 + 0.8 * Unit());
      case 4: {
        std::vector<int> budgets(layers);
        for (int& b : budgets) b = 1 + Below(1000);
        return fmt::format("snapkv,schedule=custom,budgets={}",
                           fmt::join(budgets, ":"));
      }
      default:
        return fmt::format("pyramidkv,beta={:.2f}", 1 + 40 * Unit());
    }
  }

  std::mt19937 rng_;
};

CacheSpec Spec(const std::string& text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

int DefaultMin(const CacheSpec& s) {
  if (s.budget.schedule == ScheduleKind::kPower) return 16;
  const bool has = s.budget.schedule == ScheduleKind::kLinear ||
                   s.budget.schedule == ScheduleKind::kTable;
  return has ? 64 : 0;
}

// Fewest entries of a layer, written down a second time from the design.
int Floor(const CacheSpec& s, const BudgetRequest& r, int layer) {
  if (layer + 1 <= s.budget.warmup * r.layers + 1e-9) return r.tokens;
  const int least =
      std::max(s.budget.min.value_or(DefaultMin(s)), LeastEntries(s));
  return std::min(least, r.tokens);
}

int64_t SumOfFloors(const CacheSpec& s, const BudgetRequest& r) {
  int64_t sum = 0;
  for (int l = 0; l < r.layers; ++l) sum += Floor(s, r, l);
  return sum * r.kv_heads;
}

void CheckCapsAndFloors(const CacheSpec& s, const BudgetRequest& r,
                        const Budgets& b) {
  ASSERT_EQ(b.entries.size(), static_cast<size_t>(r.layers) * r.kv_heads);
  EXPECT_EQ(std::accumulate(b.entries.begin(), b.entries.end(), int64_t{0}),
            b.total);
  int uneven_layers = 0;
  for (int l = 0; l < r.layers; ++l) {
    const auto first = b.entries.begin() + l * r.kv_heads;
    const auto [low, high] = std::minmax_element(first, first + r.kv_heads);
    EXPECT_GE(*low, Floor(s, r, l)) << "layer " << l;
    EXPECT_LE(*high, r.tokens) << "layer " << l;
    EXPECT_LE(*high - *low, 1) << "layer " << l;
    uneven_layers += *high != *low;
  }
  EXPECT_LE(uneven_layers, 1);
}

TEST(ScheduleLawTest, TotalsAreExact) {
  Trials trials(1);
  for (int i = 0; i < 500; ++i) {
    const Trial t = trials.Next();
    const int64_t heads = int64_t{t.r.layers} * t.r.kv_heads;
    const double keep = (1 + trials.Below(1000)) / 1000.0;
    const std::string by_keep = fmt::format("{},keep={}", t.text, keep);
    SCOPED_TRACE(fmt::format("{} layers={} heads={} tokens={}", by_keep,
                             t.r.layers, t.r.kv_heads, t.r.tokens));
    const CacheSpec s = Spec(by_keep);
    const auto b = ResolveBudgets(s, t.r);
    ASSERT_TRUE(b.ok()) << b.status().message();
    const auto asked = static_cast<int64_t>(
        std::floor(keep * static_cast<double>(heads * t.r.tokens) + 0.5));
    const int64_t least = SumOfFloors(s, t.r);
    EXPECT_EQ(b->total, std::max(asked, least));
    EXPECT_EQ(b->warnings.size(), asked < least ? 1u : 0u);
    CheckCapsAndFloors(s, t.r, *b);

    const int tokens = 1 + trials.Below(t.r.tokens + 5);
    const CacheSpec by_tokens =
        Spec(fmt::format("{},tokens={}", t.text, tokens));
    const auto c = ResolveBudgets(by_tokens, t.r);
    const int64_t total = heads * std::min(tokens, t.r.tokens);
    ASSERT_EQ(c.ok(), total >= least);
    if (!c.ok()) {
      EXPECT_EQ(c.status().code(), StatusCode::kDoesNotFit);
      continue;
    }
    EXPECT_EQ(c->total, total);
    CheckCapsAndFloors(by_tokens, t.r, *c);
  }
}

TEST(ScheduleLawTest, KeepIsMonotoneAndOneIsEverything) {
  Trials trials(2);
  for (int i = 0; i < 40; ++i) {
    const Trial t = trials.Next();
    SCOPED_TRACE(t.text);
    int64_t last = 0;
    for (int step = 1; step <= 50; ++step) {
      const double keep = step / 50.0;
      const auto b =
          ResolveBudgets(Spec(fmt::format("{},keep={}", t.text, keep)), t.r);
      ASSERT_TRUE(b.ok());
      EXPECT_GE(b->total, last) << "keep=" << keep;
      last = b->total;
    }
    EXPECT_EQ(last, int64_t{t.r.layers} * t.r.kv_heads * t.r.tokens);
  }
}

TEST(ScheduleLawTest, KeepOneIsEverythingInPublishedModes) {
  Trials trials(3);
  for (int i = 0; i < 200; ++i) {
    const Trial t = trials.Next();
    for (const char* mode : {"reference", "kvpress"}) {
      const auto b =
          ResolveBudgets(Spec(fmt::format("pyramidkv,keep=1,mode={},window={}",
                                          mode, 1 + trials.Below(64))),
                         t.r);
      ASSERT_TRUE(b.ok());
      EXPECT_EQ(b->total, int64_t{t.r.layers} * t.r.kv_heads * t.r.tokens)
          << mode << " tokens=" << t.r.tokens << " layers=" << t.r.layers;
    }
  }
}

TEST(ScheduleLawTest, MemoryIsNeverExceededAndWellUsed) {
  Trials trials(4);
  for (int i = 0; i < 150; ++i) {
    Trial t = trials.Next();
    const bool global = trials.Below(4) == 0;
    if (global) t.text = "snapkv-wide";
    const int64_t all = CacheBytes(
        std::vector<int>(t.r.layers * t.r.kv_heads, t.r.tokens), t.r);
    const int64_t memory = 1 + static_cast<int64_t>(trials.Unit() * all * 1.2);
    SCOPED_TRACE(
        fmt::format("{},memory={} tokens={}", t.text, memory, t.r.tokens));
    const CacheSpec s = Spec(fmt::format("{},memory={}", t.text, memory));
    const auto b = ResolveBudgets(s, t.r);
    const int64_t used = b.ok() ? CacheBytes(b->entries, t.r) : 0;
    if (!b.ok()) {
      EXPECT_EQ(b.status().code(), StatusCode::kDoesNotFit);
      CacheSpec least = s;
      least.budget.memory.reset();
      least.budget.keep = 1e-9;
      const auto floors = ResolveBudgets(least, t.r);
      ASSERT_TRUE(floors.ok());
      EXPECT_GT(global ? MostSplitBytes(floors->total, t.r)
                       : CacheBytes(floors->entries, t.r),
                memory);
      continue;
    }
    EXPECT_LE(used, memory);
    if (!global) CheckCapsAndFloors(s, t.r, *b);
    // One entry more would not fit.
    if (global || memory >= all) continue;
    CacheSpec more = s;
    more.budget.memory.reset();
    const int64_t heads = int64_t{t.r.layers} * t.r.kv_heads;
    more.budget.keep =
        (b->total + 1.0) / static_cast<double>(heads * t.r.tokens);
    const auto next = ResolveBudgets(more, t.r);
    ASSERT_TRUE(next.ok());
    ASSERT_EQ(next->total, b->total + 1);
    EXPECT_GT(CacheBytes(next->entries, t.r), memory);
  }
}

// The published pyramids are searched from where they may fit.
TEST(ScheduleLawTest, MemoryOfPublishedModesIsTheLargestMeanThatFits) {
  Trials trials(6);
  for (int i = 0; i < 60; ++i) {
    Trial t = trials.Next();
    const int64_t all = CacheBytes(
        std::vector<int>(t.r.layers * t.r.kv_heads, t.r.tokens), t.r);
    const int64_t memory = 1 + static_cast<int64_t>(trials.Unit() * all * 1.2);
    for (const char* mode : {"reference", "kvpress"}) {
      const auto at = [&](const std::string& budget) {
        return ResolveBudgets(
            Spec(fmt::format("pyramidkv,mode={},{}", mode, budget)), t.r);
      };
      const auto b = at(fmt::format("memory={}", memory));
      int64_t best = -1;
      for (int mean = t.r.tokens; mean >= 1 && best < 0; --mean) {
        const auto c = at(fmt::format("tokens={}", mean));
        if (c.ok() && CacheBytes(c->entries, t.r) <= memory) best = c->total;
      }
      ASSERT_EQ(b.ok(), best >= 0) << mode;
      if (b.ok()) {
        EXPECT_EQ(b->total, best) << mode;
      }
    }
  }
  // However long the context is.
  const BudgetRequest r = {
      .layers = 30, .kv_heads = 3, .tokens = 1 << 28, .page_bytes = 64 * 256};
  EXPECT_TRUE(
      ResolveBudgets(Spec("pyramidkv,mode=kvpress,memory=1GiB"), r).ok());
}

// However unevenly heads=global spends its total, the bound holds.
TEST(ScheduleLawTest, GlobalBoundHoldsForAnySplit) {
  Trials trials(5);
  for (int i = 0; i < 200; ++i) {
    const Trial t = trials.Next();
    std::vector<int> entries(t.r.layers * t.r.kv_heads);
    for (int& e : entries) {
      // Often one entry on a last page, the worst for whole pages.
      e = std::min(t.r.tokens, 64 * trials.Below(20) + 1);
    }
    const int64_t total =
        std::accumulate(entries.begin(), entries.end(), int64_t{0});
    EXPECT_LE(CacheBytes(entries, t.r), MostSplitBytes(total, t.r));
  }
}

}  // namespace
}  // namespace pyramidkv
