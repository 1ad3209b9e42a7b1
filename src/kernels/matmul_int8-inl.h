// The forms of kernels/matmul_int8.h share this: how quantised rows lie, what
// a call is, and the formats of tiles as compile-time constants.
//
// Include it before `#pragma GCC target(...)`. Code after that pragma
// gets plain pointers and calls no inline function of a header, which would
// be merged into code for older CPUs.

#ifndef PYRAMIDKV_KERNELS_MATMUL_INT8_INL_H_
#define PYRAMIDKV_KERNELS_MATMUL_INT8_INL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/matmul_int8.h"
#include "kernels/weight_tiles.h"

namespace pyramidkv {

inline constexpr int kFineGroup = 8;  // rows of two planes at once, at most

// Bytes of a quantised row and block: values and four numbers.
constexpr int BlockRowBytes(int planes) { return planes * kBlockCols + 16; }

struct Int8Call {
  const uint8_t* tiles;
  size_t group_bytes;
  int outputs;
  const Int8Rows::Group* groups;
  int group_count;
  const uint8_t* x;
  int blocks;  // of columns
  int first, count;
  float* y;
  size_t y_stride;
};

// A format's constants.
template <int kBitCount, BlockScales kScaleKind, int kZeroLog2>
struct Int8Format {
  static constexpr int kBits = kBitCount;
  static constexpr BlockScales kScales = kScaleKind;
  static constexpr int kZero = kZeroLog2;  // log2 of the zero point; 0: none
  static constexpr bool kHasMin =
      kScales == BlockScales::kMin || kScales == BlockScales::kSuperMin;
  // Halves of a block have scales of their own.
  static constexpr bool kHalves = kScales == BlockScales::kSuperHalves;
  static constexpr int kParts = kHalves ? 2 : 1;
  static constexpr TileFormat kTile{kBits, kScales, 0};
  static constexpr size_t kSuperBytes = kTile.super_bytes();
  static constexpr size_t kQuantBytes = kTile.quant_bytes();
  static constexpr size_t kBlockBytes = kTile.block_bytes();
};

// Kernel::Run<Format>(call) for the format of `tile`.
template <class Kernel>
void RunInt8Format(const TileFormat& tile, const Int8Call& call) {
  const int bits = tile.bits;
  switch (tile.scales) {
    case BlockScales::kZero:
      if (bits == 4) {
        Kernel::template Run<Int8Format<4, BlockScales::kZero, 3>>(call);
      } else if (bits == 5) {
        Kernel::template Run<Int8Format<5, BlockScales::kZero, 4>>(call);
      } else {
        Kernel::template Run<Int8Format<8, BlockScales::kZero, 7>>(call);
      }
      return;
    case BlockScales::kMin:
      if (bits == 4) {
        Kernel::template Run<Int8Format<4, BlockScales::kMin, 0>>(call);
      } else {
        Kernel::template Run<Int8Format<5, BlockScales::kMin, 0>>(call);
      }
      return;
    case BlockScales::kSuperMin:
      if (bits == 4) {
        Kernel::template Run<Int8Format<4, BlockScales::kSuperMin, 0>>(call);
      } else {
        Kernel::template Run<Int8Format<5, BlockScales::kSuperMin, 0>>(call);
      }
      return;
    case BlockScales::kSuperHalves:
      Kernel::template Run<Int8Format<6, BlockScales::kSuperHalves, 5>>(call);
      return;
  }
}

// Row r of a group, which may be one of padding: those repeat the last one.
// x: [rows, cols]; to: the group's bytes. planes: 1 or 2.
void QuantizeRowVnni(const float* x, const Int8Rows::Group& group, int r,
                     int cols, uint8_t* to);
void QuantizeRowAvx2(const float* x, const Int8Rows::Group& group, int r,
                     int cols, uint8_t* to);

void MultiplyTilesVnni(const TileFormat& tile, const Int8Call& call);
void MultiplyTilesAvx2(const TileFormat& tile, const Int8Call& call);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_INT8_INL_H_
