// The doors of a form of kernels/matmul_int8.h, the same for all: which
// template serves a group of rows, and where the numbers of a quantised block
// go.
//
// Include it after `#pragma GCC target(...)`, as kernels/avx512_bf16-inl.h
// says, with kernels/matmul_int8-inl.h before it. All here has internal
// linkage.

#ifndef PYRAMIDKV_KERNELS_MATMUL_INT8_ROWS_INL_H_
#define PYRAMIDKV_KERNELS_MATMUL_INT8_ROWS_INL_H_

namespace pyramidkv {
namespace {

// Int8Format by Int8Format: Kernel::RowGroup<Format, rows, planes>(call, group)
// for each group of rows of a call.
template <class Kernel>
struct EachGroup {
  template <class F>
  static void Run(const Int8Call& c) {
    for (int i = 0; i < c.group_count; ++i) {
      const Int8Rows::Group& group = c.groups[i];
      if (group.planes == 1) {
        Kernel::template RowGroup<F, kInt8RowGroup, 1>(c, group);
      } else if (group.padded_rows == 1) {
        Kernel::template RowGroup<F, 1, 2>(c, group);
      } else if (group.padded_rows == 2) {
        Kernel::template RowGroup<F, 2, 2>(c, group);
      } else if (group.padded_rows == 4) {
        Kernel::template RowGroup<F, 4, 2>(c, group);
      } else {
        Kernel::template RowGroup<F, kFineGroup, 2>(c, group);
      }
    }
  }
};

// Sums of a block's whole numbers: of all 32, of the first 16.
struct BlockSums {
  int all, half;
};

// Kernel::QuantizeBlock<planes>(x, to, unit): 32 values to [planes, 32] s8,
// whose unit and sums it gives.
template <class Kernel, int kPlanes>
void QuantizeBlocks(const float* x, int row, int rows, int cols, uint8_t* to) {
  constexpr int kRowBytes = kPlanes * kBlockCols;
  constexpr int kBytes = BlockRowBytes(kPlanes);  // with the numbers
  for (int b = 0; b < cols / kBlockCols; ++b, x += kBlockCols) {
    float unit;
    const BlockSums sums =
        Kernel::template QuantizeBlock<kPlanes>(x, to + row * kRowBytes, &unit);
    const float scaled_sum = unit * static_cast<float>(sums.all);
    const int minus_sum = -sums.all, minus_half = -sums.half;
    uint8_t* const numbers = to + rows * kRowBytes + 4 * row;
    __builtin_memcpy(numbers, &unit, 4);
    __builtin_memcpy(numbers + 4 * rows, &scaled_sum, 4);
    __builtin_memcpy(numbers + 8 * rows, &minus_sum, 4);
    __builtin_memcpy(numbers + 12 * rows, &minus_half, 4);
    to += rows * kBytes;
  }
}

// Row r of a group, as kernels/matmul_int8-inl.h says.
template <class Kernel>
void QuantizeRow(const float* x, const Int8Rows::Group& group, int r, int cols,
                 uint8_t* to) {
  const int row = group.first + (r < group.rows ? r : group.rows - 1);
  x += size_t(row) * cols;
  if (group.planes == 2) {
    QuantizeBlocks<Kernel, 2>(x, r, group.padded_rows, cols, to);
  } else {
    QuantizeBlocks<Kernel, 1>(x, r, group.padded_rows, cols, to);
  }
}

}  // namespace
}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_INT8_ROWS_INL_H_
