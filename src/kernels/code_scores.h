// Estimates of q.k from codes of 4 bits, and the best of each block of
// entries: what a query needs to know of keys that it may not read.
//
//   q.k ~= scale of the entry * sum over its codes of a table of the query
//
// A code is one of two things:
//   signs    of four channels: q.k ~= mean_d |k_d| * sum_d (k_d < 0 ? -q_d :
//            q_d). Good where the channels are alike in size: rotate q and k
//            first (RotateChannels in kernels/kv_quant.h).
//   columns  one channel in 15 steps, for keys in a basis where few channels
//            matter.
// Tables hold bytes, so that a code is one in-register shuffle of every SIMD
// target. Rounding q to them adds 0.1 % to the variance that signs leave, and
// all sums are of integers: every target gives the same bits.
//
// Entries come in groups of 64, that is 4 blocks of 16. A group:
//   u8  [codes / 2][64]  code 2 i in the low half, 2 i + 1 in the high one
//   f16 [64]             scales, even bytes' entries before odd ones'
// Byte p of a row is entry p / 8 * 2 + p % 2 of block p / 2 % 4. In 16-bit
// halves of vectors of any width a block is then every fourth lane, and its
// maximum a maximum of vectors.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_CODE_SCORES_H_
#define PYRAMIDKV_KERNELS_CODE_SCORES_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kCodeBlock = 16;
inline constexpr int kCodeGroup = 64;
inline constexpr int kMaxCodes = 264;  // sums stay in 16 bits
inline constexpr int kChannelsOfSigns = 4;

// REQUIRES here and below: `codes` is even, at most kMaxCodes.
constexpr size_t CodeGroupBytes(int codes) {
  return size_t(kCodeGroup) * (codes / 2 + sizeof(uint16_t));
}
// A table is one query's.
constexpr size_t CodeTableBytes(int codes) { return size_t(codes) * 16; }

// Codes of k [head_dim] by signs: codes [head_dim / 4]. Returns the scale.
// REQUIRES: head_dim % 4 == 0.
float SignCodes(const float* k, int head_dim, uint8_t* codes);
// Tables of q [head_dim] for them. Returns the step that q was rounded to. A
// channel that is not finite counts as 0.
float SignTables(const float* q, int head_dim, uint8_t* tables);

// The same by columns: codes [columns].
float ColumnCodes(const float* k, int columns, uint8_t* codes);
float ColumnTables(const float* q, int columns, uint8_t* tables);

// Stores an entry, 0 <= entry < kCodeGroup. A scale beyond f16 is cut off.
void StoreCodes(const uint8_t* codes, int count, float scale, int entry,
                std::byte* group);
void CopyCodes(int count, int from, int to, std::byte* group);

struct CodeScoresArgs {
  int codes = 0;  // of an entry
  const std::byte* groups = nullptr;
  int blocks = 0;  // whole ones: give a partly filled one copies of an entry
  const uint8_t* tables = nullptr;  // [queries, CodeTableBytes]
  const float* steps = nullptr;     // [queries]
  int queries = 0;
};

// best [queries, blocks]: the largest estimate in the block.
void CodeScores(const CodeScoresArgs& args, float* best);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_CODE_SCORES_H_
