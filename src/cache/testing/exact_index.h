// A KeyIndex that keeps the keys and computes the products themselves.

#ifndef PYRAMIDKV_CACHE_TESTING_EXACT_INDEX_H_
#define PYRAMIDKV_CACHE_TESTING_EXACT_INDEX_H_

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {

class ExactIndex : public KeyIndex {
 public:
  explicit ExactIndex(int head_dim) : head_dim_(head_dim) {}

  void Append(const float* k, int count, size_t stride) override {
    for (int r = 0; r < count; ++r) {
      keys_.insert(keys_.end(), k + r * stride, k + r * stride + head_dim_);
    }
  }

  void Score(const float* q, int group, std::vector<float>* /*scratch*/,
             float* best) const override {
    for (int g = 0; g < group; ++g) {
      float* const out = best + static_cast<size_t>(g) * blocks();
      std::fill_n(out, blocks(), -std::numeric_limits<float>::infinity());
      for (int i = 0; i < length(); ++i) {
        float dot = 0;
        for (int c = 0; c < head_dim_; ++c) {
          dot += q[g * head_dim_ + c] * keys_[i * head_dim_ + c];
        }
        out[i / kBlockEntries] = std::max(out[i / kBlockEntries], dot);
      }
    }
  }

  int length() const override {
    return static_cast<int>(keys_.size()) / head_dim_;
  }
  int64_t bytes() const override { return keys_.capacity() * sizeof(float); }
  KeyIndexState Export() const override {
    KeyIndexState state;
    state.length = length();
    state.mean = keys_;
    return state;
  }
  bool Import(KeyIndexState state) override {
    keys_ = std::move(state.mean);
    return length() == state.length;
  }

 private:
  int head_dim_;
  std::vector<float> keys_;  // [length, head_dim]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_EXACT_INDEX_H_
