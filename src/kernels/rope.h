// Rotary position embedding of query and key rows.

#ifndef PYRAMIDKV_KERNELS_ROPE_H_
#define PYRAMIDKV_KERNELS_ROPE_H_

#include <cstddef>

namespace pyramidkv {

// How a model rotates keys, without YaRN's factor on the magnitude.
struct RopeRotation {
  const float* inv_freq = nullptr;  // [pairs] radians per position
  int pairs = 0;
  bool neox = false;
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
