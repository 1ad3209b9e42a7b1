#include "policy/global_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

namespace pyramidkv {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

CacheSpec Wide(int sinks, int recent) {
  CacheSpec s = *ParseCacheSpec("snapkv-wide,keep=0.5");
  s.score.sinks = sinks;
  s.score.recent = recent;
  return s;
}

using Scores = std::vector<std::vector<float>>;  // [layers * kv_heads][n]

// All at once, by sorting everything: what the incremental split must equal.
std::vector<std::vector<int>> NaiveSplit(const CacheSpec& spec,
                                         const Scores& scores, int64_t total,
                                         int floor_entries) {
  struct Entry {
    bool sure;
    float score;
    size_t head;
    int index;
  };
  std::vector<Entry> all;
  for (size_t h = 0; h < scores.size(); ++h) {
    const int n = static_cast<int>(scores[h].size());
    std::vector<Entry> mine;
    for (int i = 0; i < n; ++i) {
      const bool kept = i < spec.score.sinks || i >= n - spec.score.recent;
      const float x = std::isnan(scores[h][i]) ? -1e30f : scores[h][i];
      mine.push_back({kept, x, h, i});
    }
    std::stable_sort(mine.begin(), mine.end(), [](auto& a, auto& b) {
      return std::tuple(!a.sure, -a.score) < std::tuple(!b.sure, -b.score);
    });
    for (int i = 0; i < std::min(n, floor_entries); ++i) mine[i].sure = true;
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) {
    const float x = a.sure ? 0 : -a.score, y = b.sure ? 0 : -b.score;
    return std::tuple(!a.sure, x, a.head, a.index) <
           std::tuple(!b.sure, y, b.head, b.index);
  });
  std::vector<std::vector<int>> kept(scores.size());
  for (int64_t i = 0; i < total && i < static_cast<int64_t>(all.size()); ++i) {
    kept[all[i].head].push_back(all[i].index);
  }
  for (auto& k : kept) std::sort(k.begin(), k.end());
  return kept;
}

// The incremental split, the way a prefill drives it. Checks the bound on
// what is held at any time.
std::vector<std::vector<int>> LayerByLayer(const CacheSpec& spec,
                                           const Scores& scores, int layers,
                                           int kv_heads, int64_t total,
                                           int floor_entries) {
  GlobalSplit split(spec, layers, kv_heads, total, floor_entries);
  std::vector<std::vector<int>> held(scores.size());
  for (int l = 0; l < layers; ++l) {
    for (int h = 0; h < kv_heads; ++h) {
      const size_t i = l * kv_heads + h;
      held[i].resize(scores[i].size());
      std::iota(held[i].begin(), held[i].end(), 0);
      split.AddHead(l, h, scores[i], {});
    }
    for (const auto& change : split.Trim(l + 1 == layers)) {
      auto& mine = held[change.layer * kv_heads + change.head];
      std::vector<int> left;
      for (int i : change.kept) left.push_back(mine[i]);
      EXPECT_LT(left.size(), mine.size()) << "an unchanged head is reported";
      mine = left;
    }
    int64_t count = 0;
    for (const auto& m : held) count += m.size();
    EXPECT_EQ(split.held(), count);
    EXPECT_LE(count, static_cast<int64_t>(total * 1.125));
  }
  return held;
}

TEST(GlobalSplitTest, BestOverAllHeads) {
  const Scores scores = {{1, 9, 2, 8}, {3, 3, 3, 3}, {0, 7, 0, 0}};
  EXPECT_THAT(
      LayerByLayer(Wide(0, 0), scores, 3, 1, 6, 1),
      ElementsAre(ElementsAre(1, 3), ElementsAre(0, 1, 2), ElementsAre(1)));
}

TEST(GlobalSplitTest, FloorAndProtectedComeFirst) {
  const Scores scores = {{5, 6, 7, 8}, {0.1f, 0.3f, 0.2f, 0.1f}};
  // Every head is sure of its best two.
  EXPECT_THAT(LayerByLayer(Wide(0, 0), scores, 2, 1, 4, 2),
              ElementsAre(ElementsAre(2, 3), ElementsAre(1, 2)));
  // Sinks and recent count towards the two.
  EXPECT_THAT(LayerByLayer(Wide(1, 1), scores, 2, 1, 5, 2),
              ElementsAre(ElementsAre(0, 2, 3), ElementsAre(0, 3)));
}

TEST(GlobalSplitTest, NanAndInfinity) {
  const float inf = std::numeric_limits<float>::infinity();
  const Scores scores = {{kNan, inf, 1, kNan}, {2, -inf, inf, 0}};
  EXPECT_THAT(LayerByLayer(Wide(0, 0), scores, 1, 2, 4, 1),
              ElementsAre(ElementsAre(1, 2), ElementsAre(0, 2)));
}

TEST(GlobalSplitTest, IncrementalIsTheOneShotSplit) {
  std::mt19937 rng(7);
  int trimmed_early = 0;
  for (int trial = 0; trial < 400; ++trial) {
    const int layers = 1 + rng() % 8, kv_heads = 1 + rng() % 4;
    const CacheSpec spec = Wide(rng() % 3, rng() % 4);
    const int few = rng() % 2 == 0;  // few values: many ties
    Scores scores(layers * kv_heads);
    int64_t everything = 0;
    const int n = 8 + rng() % 60;
    for (auto& s : scores) {
      s.resize(rng() % 4 == 0 ? 8 + rng() % n : n);  // ragged after an extend
      for (float& x : s) {
        x = few ? static_cast<float>(rng() % 5)
                : static_cast<float>(rng()) / 4294967296.0f;
        if (rng() % 40 == 0) x = kNan;
      }
      everything += s.size();
    }
    const int floor_entries = 1 + rng() % 5;
    const int64_t least =
        int64_t{layers} * kv_heads *
        std::max(floor_entries, spec.score.sinks + spec.score.recent);
    const int64_t total = least + rng() % (everything - least + 1);
    const auto kept =
        LayerByLayer(spec, scores, layers, kv_heads, total, floor_entries);
    ASSERT_EQ(kept, NaiveSplit(spec, scores, total, floor_entries))
        << "trial " << trial;
    int64_t count = 0;
    for (const auto& k : kept) count += k.size();
    ASSERT_EQ(count, total);
    trimmed_early += layers > 2 && total * 3 < everything;
  }
  EXPECT_GT(trimmed_early, 50);  // the incremental path was exercised
}

TEST(GlobalSplitTest, HeldMass) {
  GlobalSplit split(Wide(0, 0), 2, 1, 3, 1);
  split.AddHead(0, 0, std::vector<float>{4, 3, 0, 0},
                std::vector<float>{0.5f, 0.25f, 0.125f, 0.125f});
  EXPECT_EQ(split.HeldMass(0, 0), 1.0);
  split.Trim(false);  // three are left: 4, 3 and the first 0
  EXPECT_EQ(split.HeldMass(0, 0), 0.875);
  split.AddHead(1, 0, std::vector<float>{9, 5}, {});
  EXPECT_LT(split.HeldMass(1, 0), 0);
  split.Trim(true);  // 9, 5 and 4
  EXPECT_EQ(split.HeldMass(0, 0), 0.5);
}

TEST(GlobalSplitTest, FloorEntries) {
  const CacheSpec s = Wide(4, 16);  // floor 0.2
  EXPECT_EQ(GlobalFloorEntries(s, 6000, 10, 3), 40);
  EXPECT_EQ(GlobalFloorEntries(s, 30, 10, 3), 1);
}

}  // namespace
}  // namespace pyramidkv
