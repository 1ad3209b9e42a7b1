// The sets that kvpress keeps of one layer of random tensors, entry by entry.

#include <gtest/gtest.h>

#include <vector>

#include "policy/layer_scores.h"
#include "policy/select.h"
#include "policy/testing/small_1layer.h"

namespace pyramidkv {
namespace {

LayerScores Score(const CacheSpec& spec, const Small1Layer& golden) {
  const std::vector<float> window = golden.LastQueries(golden.window);
  const std::vector<int> n(golden.kv_heads, golden.tokens);
  std::vector<const float*> k, v;
  for (int h = 0; h < golden.kv_heads; ++h) {
    const size_t offset = size_t{1} * h * golden.tokens * golden.head_dim;
    k.push_back(golden.k.data() + offset);
    v.push_back(golden.v.data() + offset);
  }
  LayerView view;
  view.kv_heads = golden.kv_heads;
  view.group = golden.query_heads / golden.kv_heads;
  view.head_dim = golden.head_dim;
  view.n = n.data();
  view.k = k.data();
  view.v = v.data();
  view.window_q = window.data();
  view.window_rows = golden.window;
  view.attention_scale = kSmall1LayerScale;
  ThreadPool pool(2);
  return ScoreLayer(spec, view, n, &pool);
}

TEST(Small1LayerGoldenTest, KeepsExactlyTheseEntries) {
  const Small1Layer golden = LoadSmall1Layer();
  const Result<CacheSpec> spec = ParseCacheSpec("snapkv,keep=0.5");
  ASSERT_TRUE(spec.ok());
  ASSERT_EQ(spec->score.window, golden.window);
  ASSERT_EQ(spec->score.kernel, golden.kernel);
  const LayerScores scores = Score(*spec, golden);
  // SnapKV, then PyramidKV at layers 0, 10 and 29 of 30.
  const std::vector<int> budgets = {128, 224, 158, 32};
  ASSERT_GE(golden.kept.size(), budgets.size());
  for (size_t set = 0; set < budgets.size(); ++set) {
    for (int h = 0; h < golden.kv_heads; ++h) {
      EXPECT_EQ(SelectKept(*spec, scores.score[h], golden.tokens, budgets[set]),
                golden.kept[set][h])
          << "set " << set << ", head " << h;
    }
  }
}

}  // namespace
}  // namespace pyramidkv
