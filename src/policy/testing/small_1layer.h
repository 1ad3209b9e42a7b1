// One attention layer of random tensors and what kvpress keeps of it, for
// tests. tests/golden/README.md describes the file.

#ifndef PYRAMIDKV_POLICY_TESTING_SMALL_1LAYER_H_
#define PYRAMIDKV_POLICY_TESTING_SMALL_1LAYER_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace pyramidkv {

inline constexpr float kSmall1LayerScale = 0.125f;

struct Small1Layer {
  // The sets, in the order of the file.
  enum Set {
    kSnapKv,
    kPyramid0,
    kPyramid10,
    kPyramid29,
    kKnorm,
    kTova,
    kObserved,
    kStreaming,
  };
  // The scores, in the order of the file.
  enum Score { kSnapKvScore, kKnormScore, kTovaScore, kObservedScore };

  int query_heads, kv_heads, head_dim, tokens, window, kernel;
  std::vector<float> q;  // [query_heads, tokens, head_dim], no RoPE
  std::vector<float> k;  // [kv_heads, tokens, head_dim]
  std::vector<float> v;
  std::vector<std::vector<std::vector<int32_t>>> kept;  // [Set][kv_heads]
  // [Score][kv_heads] of [tokens]
  std::vector<std::vector<std::vector<float>>> score;

  int group() const { return query_heads / kv_heads; }
  std::vector<float> Keys(int kv_head) const {
    const size_t size = size_t{1} * tokens * head_dim;
    const auto first = k.begin() + kv_head * size;
    return {first, first + size};
  }
  // The last `rows` queries of every head: [rows, query_heads, head_dim].
  std::vector<float> LastQueries(int rows) const {
    std::vector<float> last;
    for (int t = tokens - rows; t < tokens; ++t) {
      for (int h = 0; h < query_heads; ++h) {
        const auto row = q.begin() + (size_t{1} * h * tokens + t) * head_dim;
        last.insert(last.end(), row, row + head_dim);
      }
    }
    return last;
  }
};

inline Small1Layer LoadSmall1Layer() {
  std::ifstream file(PYRAMIDKV_SOURCE_DIR "/tests/golden/small_1layer.bin",
                     std::ios::binary);
  const auto read = [&](auto* values, size_t count) {
    file.read(reinterpret_cast<char*>(values), count * sizeof(*values));
  };
  const auto read_int = [&] {
    int32_t value = 0;
    read(&value, 1);
    return value;
  };
  Small1Layer layer = {};
  for (int* field : {&layer.query_heads, &layer.kv_heads, &layer.head_dim,
                     &layer.tokens, &layer.window, &layer.kernel}) {
    *field = read_int();
  }
  layer.kept.resize(read_int());
  const size_t head = size_t{1} * layer.tokens * layer.head_dim;
  layer.q.resize(layer.query_heads * head);
  layer.k.resize(layer.kv_heads * head);
  layer.v.resize(layer.kv_heads * head);
  for (auto* x : {&layer.q, &layer.k, &layer.v}) read(x->data(), x->size());
  for (auto& set : layer.kept) {
    set.assign(layer.kv_heads, std::vector<int32_t>(read_int()));
    for (auto& positions : set) read(positions.data(), positions.size());
  }
  layer.score.resize(read_int());
  for (auto& score : layer.score) {
    score.assign(layer.kv_heads, std::vector<float>(layer.tokens));
    for (auto& of_head : score) read(of_head.data(), of_head.size());
  }
  EXPECT_TRUE(file.good());
  return layer;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_TESTING_SMALL_1LAYER_H_
