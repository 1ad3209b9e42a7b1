// The last queries of every layer, for scorers that look again while tokens
// are generated.

#ifndef PYRAMIDKV_RUNTIME_QUERY_RING_H_
#define PYRAMIDKV_RUNTIME_QUERY_RING_H_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/rope.h"

namespace pyramidkv {

class QueryRing {
 public:
  // Keeps the newest `rows` queries of [width] values in each layer.
  void Reset(int layers, int rows, size_t width) {
    rows_ = rows;
    width_ = width;
    layers_.assign(layers, {});
  }

  // q: [count, width], newest last.
  void Add(int layer, const float* q, int count) {
    if (rows_ == 0) return;
    std::vector<float>& kept = layers_[layer];
    const size_t skip = std::max(0, count - static_cast<int>(rows_));
    kept.insert(kept.end(), q + skip * width_, q + count * width_);
    // Twice the rows before anything moves: a move for each row would cost
    // more than the row.
    if (kept.size() > 2 * rows_ * width_) {
      kept.erase(kept.begin(), kept.end() - rows_ * width_);
    }
  }

  int count(int layer) const {
    return static_cast<int>(
        std::min<size_t>(layers_[layer].size() / width_, rows_));
  }
  size_t width() const { return width_; }
  size_t most_rows() const { return rows_; }
  // [count, width], newest last.
  const float* rows(int layer) const {
    const std::vector<float>& kept = layers_[layer];
    return kept.data() + kept.size() - count(layer) * width_;
  }

  // Turns a layer's queries by `delta` positions.
  void Rotate(int layer, int delta, const Rotation& rope, int head_dim) {
    if (layers_.empty()) return;
    std::vector<float>& kept = layers_[layer];
    std::vector<float> table(2 * rope.pairs());
    RopeTable(rope.inv_freq.data(), rope.pairs(), delta, 1.0f, table.data());
    ApplyRope(table.data(), rope.pairs(), rope.neox,
              static_cast<int>(kept.size() / head_dim), head_dim, kept.data());
  }

 private:
  size_t rows_ = 0;
  size_t width_ = 1;
  std::vector<std::vector<float>> layers_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_QUERY_RING_H_
