#include "policy/head_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "policy/select.h"
#include "policy/testing/random_values.h"

namespace pyramidkv {
namespace {

using Heads = std::vector<std::vector<float>>;
using testing::ElementsAre;

const Heads kG14 = {
    {0.417165f, 0.670802f, 0.861562f, 0.038850f, 0.045501f, 0.039044f,
     0.029004f, 0.023645f, 0.023123f, 0.032336f, 0.029754f, 0.023364f},
    {0.203790f, 0.281951f, 0.237741f, 0.259013f, 0.271630f, 0.308264f,
     0.282603f, 0.266025f, 0.213920f, 0.231230f, 0.277529f, 0.225697f}};

// The form of the authors' code: counts of the best of all, then rounded
// together with a floor. Normalised: each head times the share of its mass
// that its best `base` hold.
std::vector<int> AuthorsSplit(Heads scores, int base, double floor,
                              bool normalise) {
  std::vector<std::pair<double, int>> all;
  for (int h = 0; h < static_cast<int>(scores.size()); ++h) {
    auto& head = scores[h];
    std::sort(head.begin(), head.end(), std::greater<float>());
    const double best = std::accumulate(head.begin(), head.begin() + base, 0.0);
    const double mass = std::accumulate(head.begin(), head.end(), 0.0);
    for (float x : head) all.emplace_back(normalise ? x * best / mass : x, h);
  }
  std::sort(all.begin(), all.end(), std::greater<>());
  std::vector<int> count(scores.size(), 0);
  for (size_t i = 0; i < scores.size() * base; ++i) ++count[all[i].second];
  for (int& c : count) {
    c = static_cast<int>(
        std::nearbyint(c * (1 - floor) + std::floor(base * floor)));
  }
  return count;
}

TEST(SplitHeadsTest, G14BothFormsKeepTheSameSets) {
  const auto budget = SplitHeads(kG14, 10, {.floor = 0.2});
  EXPECT_THAT(budget, ElementsAre(3, 7));
  EXPECT_EQ(budget, AuthorsSplit(kG14, 5, 0.2, false));
  EXPECT_EQ(budget, AuthorsSplit(kG14, 5, 0.2, true));
  EXPECT_THAT(SelectKept(CacheSpec{}, kG14[0], 12, budget[0]),
              ElementsAre(0, 1, 2));
  EXPECT_THAT(SelectKept(CacheSpec{}, kG14[1], 12, budget[1]),
              ElementsAre(1, 3, 4, 5, 6, 7, 10));
}

// By sorting every entry of the layer.
std::vector<int> Naive(const Heads& scores, int base,
                       const HeadSplitOptions& options) {
  std::vector<int> budget;
  std::vector<std::tuple<float, int, int>> open;  // -score, head, index
  int left = static_cast<int>(scores.size()) * base;
  for (int h = 0; h < static_cast<int>(scores.size()); ++h) {
    const int n = static_cast<int>(scores[h].size());
    const int least = std::max(options.sinks + options.recent + 1,
                               static_cast<int>(options.floor * base + 1e-9));
    std::vector<std::tuple<float, int, int>> mine;
    for (int i = options.sinks; i < n - options.recent; ++i) {
      const float x = scores[h][i];
      mine.emplace_back(std::isnan(x) ? kInfinity : -x, h, i);
    }
    std::sort(mine.begin(), mine.end());
    budget.push_back(std::min({least, base, n}));
    left -= budget.back();
    const int taken = budget.back() - options.sinks - options.recent;
    for (int i = std::max(0, taken); i < static_cast<int>(mine.size()); ++i) {
      open.push_back(mine[i]);
    }
  }
  std::sort(open.begin(), open.end());
  for (int i = 0; i < left && i < static_cast<int>(open.size()); ++i) {
    ++budget[std::get<1>(open[i])];
  }
  return budget;
}

TEST(SplitHeadsTest, ExactSumsAndTheBestOfAllHeads) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 400; ++trial) {
    const int heads = 1 + rng() % 5;
    const int n = 1 + rng() % 60;
    HeadSplitOptions options;
    options.sinks = rng() % 4;
    options.recent = rng() % 6;
    options.floor = rng() % 11 / 10.0;
    Heads scores;
    for (int h = 0; h < heads; ++h) {
      scores.push_back(trial % 2 == 0 ? RandomTies(n, rng())
                                      : RandomValues(n, rng()));
      if (trial % 5 == 0) scores[h][rng() % n] = kNan;
    }
    for (int base = 0; base <= n; ++base) {
      const auto budget = SplitHeads(scores, int64_t{base} * heads, options);
      EXPECT_EQ(std::accumulate(budget.begin(), budget.end(), 0), heads * base);
      const int least = std::max(options.sinks + options.recent + 1,
                                 static_cast<int>(options.floor * base + 1e-9));
      for (int b : budget) {
        EXPECT_GE(b, std::min(least, base));
        EXPECT_LE(b, n);
      }
      if (base >= options.sinks + options.recent) {
        EXPECT_EQ(budget, Naive(scores, base, options)) << "trial " << trial;
      }
    }
  }
}

TEST(SplitHeadsTest, OneHeadIsANoOp) {
  for (int base : {0, 1, 5, 12}) {
    EXPECT_THAT(SplitHeads(std::span(kG14).first(1), base, {}),
                ElementsAre(base));
  }
}

TEST(SplitHeadsTest, AFloorOfOneIsEqual) {
  EXPECT_THAT(SplitHeads(kG14, 10, {.floor = 1.0}), ElementsAre(5, 5));
}

TEST(SplitHeadsTest, OfEqualScoresTheLowerHeadIsFirst) {
  const Heads equal(3, std::vector<float>(10, 1.0f));
  EXPECT_THAT(SplitHeads(equal, 12, {.floor = 0.5}), ElementsAre(8, 2, 2));
  EXPECT_THAT(SplitHeads(equal, 27, {.floor = 0.5}), ElementsAre(10, 10, 7));
}

// After an Extend heads hold different numbers of entries.
TEST(SplitHeadsTest, ShortHeads) {
  std::mt19937 rng(2);
  for (int trial = 0; trial < 300; ++trial) {
    Heads scores;
    int64_t all = 0;
    const int heads = 1 + rng() % 4;
    for (int h = 0; h < heads; ++h) {
      scores.push_back(RandomValues(rng() % 40, rng()));
      all += static_cast<int64_t>(scores.back().size());
    }
    const HeadSplitOptions options = {.sinks = static_cast<int>(rng() % 5),
                                      .recent = static_cast<int>(rng() % 20)};
    const int base = static_cast<int>(rng() % 45);
    const auto budget = SplitHeads(scores, int64_t{base} * heads, options);
    EXPECT_EQ(std::accumulate(budget.begin(), budget.end(), int64_t{0}),
              std::min<int64_t>(all, int64_t{heads} * base));
    for (int h = 0; h < heads; ++h) {
      EXPECT_LE(budget[h], static_cast<int>(scores[h].size()));
      EXPECT_GE(budget[h], std::min({static_cast<int>(scores[h].size()), base,
                                     options.sinks + options.recent + 1}));
    }
  }
}

TEST(SplitHeadsTest, NanIsNeverPreferred) {
  const Heads scores = {{kNan, kNan, kNan, kNan}, {-9, -8, -7, -6}};
  EXPECT_THAT(SplitHeads(scores, 4, {.floor = 0}), ElementsAre(1, 3));
}

}  // namespace
}  // namespace pyramidkv
