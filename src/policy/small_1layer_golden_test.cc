// The sets that kvpress keeps of one layer of random tensors, entry by entry.

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "policy/layer_scores.h"
#include "policy/select.h"

namespace pyramidkv {
namespace {

// tests/golden/small_1layer.bin; its README.md describes the format.
struct GoldenLayer {
  int query_heads, kv_heads, head_dim, tokens, window, kernel;
  std::vector<float> q;  // [query_heads, tokens, head_dim]
  std::vector<float> k;  // [kv_heads, tokens, head_dim]
  std::vector<float> v;
  std::vector<std::vector<std::vector<int32_t>>> kept;  // [set][kv_heads]
};

template <typename T>
void Read(std::istream& file, T* values, size_t count) {
  file.read(reinterpret_cast<char*>(values), count * sizeof(T));
}

int32_t ReadInt(std::istream& file) {
  int32_t value = 0;
  Read(file, &value, 1);
  return value;
}

GoldenLayer LoadGolden() {
  std::ifstream file(PYRAMIDKV_SOURCE_DIR "/tests/golden/small_1layer.bin",
                     std::ios::binary);
  GoldenLayer golden = {};
  for (int* field : {&golden.query_heads, &golden.kv_heads, &golden.head_dim,
                     &golden.tokens, &golden.window, &golden.kernel}) {
    *field = ReadInt(file);
  }
  golden.kept.resize(ReadInt(file));
  const size_t head = size_t{1} * golden.tokens * golden.head_dim;
  golden.q.resize(golden.query_heads * head);
  golden.k.resize(golden.kv_heads * head);
  golden.v.resize(golden.kv_heads * head);
  for (auto* x : {&golden.q, &golden.k, &golden.v}) {
    Read(file, x->data(), x->size());
  }
  for (auto& set : golden.kept) {
    const int entries = ReadInt(file);
    set.assign(golden.kv_heads, std::vector<int32_t>(entries));
    for (auto& positions : set) Read(file, positions.data(), positions.size());
  }
  EXPECT_TRUE(file.good());
  return golden;
}

// The last `window` rows of every query head: [window, query_heads, head_dim].
std::vector<float> WindowQueries(const GoldenLayer& golden) {
  std::vector<float> window;
  for (int t = golden.tokens - golden.window; t < golden.tokens; ++t) {
    for (int h = 0; h < golden.query_heads; ++h) {
      const auto row = golden.q.begin() +
                       (size_t{1} * h * golden.tokens + t) * golden.head_dim;
      window.insert(window.end(), row, row + golden.head_dim);
    }
  }
  return window;
}

LayerScores Score(const CacheSpec& spec, const GoldenLayer& golden) {
  const std::vector<float> window = WindowQueries(golden);
  const std::vector<int> n(golden.kv_heads, golden.tokens);
  std::vector<const float*> k, v;
  for (int h = 0; h < golden.kv_heads; ++h) {
    const size_t offset = size_t{1} * h * golden.tokens * golden.head_dim;
    k.push_back(golden.k.data() + offset);
    v.push_back(golden.v.data() + offset);
  }
  const LayerView view = {.kv_heads = golden.kv_heads,
                          .group = golden.query_heads / golden.kv_heads,
                          .head_dim = golden.head_dim,
                          .n = n.data(),
                          .k = k.data(),
                          .v = v.data(),
                          .window_q = window.data(),
                          .window_rows = golden.window,
                          .attention_scale = 0.125f};
  ThreadPool pool(2);
  return ScoreLayer(spec, view, n, &pool);
}

TEST(Small1LayerGoldenTest, KeepsExactlyTheseEntries) {
  const GoldenLayer golden = LoadGolden();
  const Result<CacheSpec> spec = ParseCacheSpec("snapkv,keep=0.5");
  ASSERT_TRUE(spec.ok());
  ASSERT_EQ(spec->window, golden.window);
  ASSERT_EQ(spec->kernel, golden.kernel);
  const LayerScores scores = Score(*spec, golden);
  // SnapKV, then PyramidKV at layers 0, 10 and 29 of 30.
  const std::vector<int> budgets = {128, 224, 158, 32};
  ASSERT_EQ(golden.kept.size(), budgets.size());
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
