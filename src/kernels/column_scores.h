// Dot products of f32 queries with rows of 8-bit columns: for indexes that keep
// some numbers of every key.
//
// Rows lie in the lanes, in blocks of 16:
//   f16 [16]            scales
//   i8  [columns][16]   value / scale, in [-127, 127]
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_COLUMN_SCORES_H_
#define PYRAMIDKV_KERNELS_COLUMN_SCORES_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kColumnBlock = 16;

constexpr size_t ColumnBlockBytes(int columns) {
  return size_t(kColumnBlock) * (columns + sizeof(uint16_t));
}

// Stores x [columns] as row `row` of a block, 0 <= row < kColumnBlock.
// Infinities are cut off at what f16 scales reach, a NaN is 0.
void StoreColumns(const float* x, int columns, int row, std::byte* block);

struct ColumnScoresArgs {
  int columns = 0;
  const std::byte* blocks = nullptr;
  int count = 0;             // blocks
  const float* q = nullptr;  // [queries, columns]
  int queries = 0;
};

// scores [queries, count, kColumnBlock]. A query's do not depend on the others.
void ColumnScores(const ColumnScoresArgs& args, float* scores);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_COLUMN_SCORES_H_
