// Estimates of q.k from one bit per channel of k, and the best of each block
// of entries: what a query needs to know of keys that it may not read.
//
//   q.k ~= scale * sum_d (k_d < 0 ? -q_d : q_d),  scale = mean_d |k_d|
//
// It is good where the channels of k are alike in size: rotate q and k first
// (RotateChannels in kernels/kv_quant.h). q is rounded to 6 bits, so that four
// channels are one lookup in a table of 16 bytes (an in-register shuffle of
// every SIMD target): that adds 0.1 % to the variance that the signs leave,
// and all sums are of integers, so every target gives the same bits.
//
// Entries come in groups of 64, that is 4 blocks of 16. A group:
//   u8  [head_dim / 8][64]  bit c: channel 8 i + c is not negative
//   f16 [64]                scales, even bytes' entries before odd ones'
// Byte p of a row is entry p / 8 * 2 + p % 2 of block p / 2 % 4. In 16-bit
// halves of vectors of any width a block is then every fourth lane, and its
// maximum a maximum of vectors.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_SIGN_SCORES_H_
#define PYRAMIDKV_KERNELS_SIGN_SCORES_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kSignBlock = 16;
inline constexpr int kSignGroup = 64;

constexpr size_t SignGroupBytes(int head_dim) {
  return size_t(kSignGroup) * (head_dim / 8 + sizeof(uint16_t));
}
// Of the tables of one query.
constexpr size_t SignTableBytes(int head_dim) { return size_t(head_dim) * 4; }

// Stores k [head_dim] as entry `entry` of its group. A scale beyond f16 is cut
// off there. REQUIRES: head_dim % 8 == 0, 0 <= entry < kSignGroup.
void StoreSigns(const float* k, int head_dim, int entry, std::byte* group);
void CopySigns(int head_dim, int from, int to, std::byte* group);

// The tables of q [head_dim] for SignScores. Returns the step that q was
// rounded to. A channel that is not finite counts as 0.
float SignTables(const float* q, int head_dim, uint8_t* tables);

struct SignScoresArgs {
  int head_dim = 0;  // a multiple of 8
  const std::byte* groups = nullptr;
  int blocks = 0;  // whole ones: give a partly filled one copies of an entry
  const uint8_t* tables = nullptr;  // [queries, SignTableBytes]
  const float* steps = nullptr;     // [queries]
  int queries = 0;
};

// best [queries, blocks]: the largest estimate in the block.
void SignScores(const SignScoresArgs& args, float* best);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_SIGN_SCORES_H_
