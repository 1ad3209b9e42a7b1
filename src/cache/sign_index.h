// One bit per channel of each key, and a scale: keys are taken less the head's
// mean (its share of q.k is the same for all entries) and rotated by a
// Hadamard transform, so that their channels are alike in size.
//
// head_dim / 8 + 2 bytes per entry: 10 for head_dim 64, which is 3.9 % of its
// K and V as f16.
//
// Source: the estimate is that of SimHash (Charikar, STOC 2002) with lengths,
// as in RaBitQ (arXiv 2405.12497). Departures: a fixed rotation, and mean
// magnitudes as scales.

#ifndef PYRAMIDKV_CACHE_SIGN_INDEX_H_
#define PYRAMIDKV_CACHE_SIGN_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {

class SignIndex : public KeyIndex {
 public:
  // REQUIRES: head_dim is a multiple of 8, at most 1,056.
  explicit SignIndex(int head_dim) : head_dim_(head_dim) {}

  // The mean is that of the first keys that come, and stays: all scales and
  // signs depend on it. Bring as many as there are.
  void Append(const float* k, int count, size_t stride) override;
  void Score(const float* q, int group, std::vector<float>* scratch,
             float* best) const override;
  int length() const override { return length_; }
  int64_t bytes() const override;
  KeyIndexState Export() const override;
  bool Import(KeyIndexState state) override;

 private:
  int codes() const { return head_dim_ / 4; }

  int head_dim_;
  int length_ = 0;
  std::vector<float> mean_;        // [head_dim] rotated
  std::vector<std::byte> groups_;  // kernels/code_scores.h
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_SIGN_INDEX_H_
