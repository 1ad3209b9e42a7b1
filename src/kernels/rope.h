// Rotary position embedding of query and key rows.

#ifndef PYRAMIDKV_KERNELS_ROPE_H_
#define PYRAMIDKV_KERNELS_ROPE_H_

#include <cstddef>
#include <span>

namespace pyramidkv {

// How a model rotates: the first 2 * pairs() channels of a head, the rest pass
// through.
struct Rotation {
  std::span<const float> inv_freq;  // [pairs] radians per position
  bool neox = false;  // pairs are (i, i + pairs), else (2i, 2i + 1)
  // YaRN's factor on cos and sin: in a key once, however often it is turned.
  float magnitude = 1;

  int pairs() const { return static_cast<int>(inv_freq.size()); }
};

// cos and sin of one position: table [2, pairs] = cosines, then sines, each
// times `magnitude`. Angles are computed in double: at position 100,000 an
// f32 product has lost a hundredth of a radian.
void RopeTable(const float* inv_freq, int pairs, int position, float magnitude,
               float* table);

// Rotates `heads` vectors of head_dim values in place. neox: the pairs are
// (i, i + pairs), else (2i, 2i + 1); channels from 2 * pairs on pass through.
// Source: RoFormer (arXiv 2104.09864), section 3.2.
void ApplyRope(const float* table, int pairs, bool neox, int heads,
               int head_dim, float* x);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ROPE_H_
