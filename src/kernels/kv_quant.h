// Entries of 8, 4 or 2 bits (2: values only): groups of 32 channels with one
// f16 scale, after a fixed rotation that spreads channels of unusual size.
//
// The rotation is a Hadamard transform of blocks of channels, orthonormal and
// its own inverse: q.k is the same for a rotated q and a rotated k, and the
// rotation of V is undone once on what attention adds up. No entry depends on
// another. Source: QuaRot (arXiv 2404.00456). Departures: one fixed transform
// without random signs, and symmetric groups - at 4 bits an offset would take
// 11 % off the squared error of a normal distribution for 11 % more bytes.
//
// Where they lie in a page (n values to a 32-bit word, n = 32 / bits; value i
// of a word is at bits * (i / 4) of its byte i % 4):
//   K [entries / 16][head_dim / n][16]   words of n channels, keys in lanes
//   V [entries / n][head_dim]            words of n entries, channels in lanes
//   after each: scales, f16 [groups][entries]
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_KV_QUANT_H_
#define PYRAMIDKV_KERNELS_KV_QUANT_H_

#include <cstddef>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// Rotates one row in place; twice is the row itself. x: [head_dim]. Blocks
// are of 64 channels, or of the largest power of two that divides head_dim.
void RotateChannels(int head_dim, float* x);
int RotationBlock(int head_dim);

// The K or V half of a page. REQUIRES: IsQuantized(codec); K has 4 or 8 bits.
struct QuantHalf {
  Codec codec;
  bool is_k;
  int head_dim;
  int entries;
};

// One row into slot `slot` of the K or V half of a page, and back. Values
// beyond f16 are cut off there; a NaN makes its groups NaN. Where `rounding`
// has weights, keys of four bits go to the next code where that lowers the
// weighted error of the row, one channel after the other.
void StoreQuantized(const QuantHalf& shape, const float* row, int slot,
                    const Rounding& rounding, std::byte* half);
void LoadQuantized(const QuantHalf& shape, const std::byte* half, int slot,
                   const float* key_rounding, float* row);
// The scale with which the largest rotated channel of rows [rows, head_dim],
// `stride` values apart, less `mean` if that is not null, has a code. 0: they
// are all zero, or not finite.
float LargestScale(Codec codec, int head_dim, const float* x, int rows,
                   size_t stride, const float* mean);
void CopyQuantized(const QuantHalf& shape, const std::byte* from, int from_slot,
                   std::byte* to, int to_slot);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KV_QUANT_H_
