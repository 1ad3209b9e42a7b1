// Weights repacked for int8 products: 16 rows of a matrix interleaved, so that
// each row is a lane and a vector of activations need not be summed across.
// Lossless, and as many bits per weight as the file has.
//
// A group is 16 consecutive rows (the last one is filled up with zeros), a
// block 32 columns of it; blocks of a group follow each other. A block:
//   quants  4 bits: [4][16][4] bytes; vector j holds the columns 4j ... 4j + 3
//           of each row in its low halves, 16 + 4j ... in its high ones
//           5 and 6 bits: the same, then bit planes [8][16][4] bits for bit 4
//           (and 5); vector k is the columns 4k ... 4k + 3
//           8 bits: [8][16][4] bytes, value + 128
//   scales  [16] each: f16 d, or f16 d and f16 m, or (K) u8 d and u8 m, or
//           (Q6_K) s8 for columns 0 ... 15 and s8 for the others
// In K types, 8 blocks follow [16] f16 d and (not Q6_K) [16] f16 m, which
// their scales multiply.

#ifndef PYRAMIDKV_KERNELS_WEIGHT_TILES_H_
#define PYRAMIDKV_KERNELS_WEIGHT_TILES_H_

#include <cstddef>

#include "kernels/weight_matrix.h"

namespace pyramidkv {

inline constexpr int kGroupRows = 16;
inline constexpr int kBlockCols = 32;
inline constexpr int kSuperBlocks = 8;  // blocks that share a K type's scales

// How a weight is made of its quant u: d * (u - zero), or d * u + m.
enum class BlockScales { kZero, kMin, kSuperMin, kSuperHalves };

struct TileFormat {
  int bits = 0;  // of a quant; 0: the type has no tiles
  BlockScales scales = BlockScales::kZero;
  int zero = 0;

  bool super() const { return scales >= BlockScales::kSuperMin; }
  constexpr size_t quant_bytes() const {
    return size_t(bits) * kGroupRows * kBlockCols / 8;
  }
  constexpr size_t block_bytes() const {
    const size_t each = scales == BlockScales::kZero ||
                                scales == BlockScales::kSuperMin ||
                                scales == BlockScales::kSuperHalves
                            ? 2 * kGroupRows
                            : 4 * kGroupRows;
    return quant_bytes() + each;
  }
  // In front of every kSuperBlocks blocks.
  constexpr size_t super_bytes() const {
    return scales == BlockScales::kSuperMin      ? 4 * kGroupRows
           : scales == BlockScales::kSuperHalves ? 2 * kGroupRows
                                                 : 0;
  }
  size_t group_bytes(int cols) const {
    const size_t blocks = cols / kBlockCols;
    return blocks * block_bytes() + blocks / kSuperBlocks * super_bytes();
  }
};

// The format of a ggml_type.
TileFormat TileFormatOf(int type);

inline int GroupsOf(int rows) { return (rows + kGroupRows - 1) / kGroupRows; }

// Repacks the 16 rows of group `group` into [group_bytes].
// REQUIRES: the type has tiles.
void PackTiles(const WeightMatrix& w, int group, std::byte* to);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_WEIGHT_TILES_H_
