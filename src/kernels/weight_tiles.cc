#include "kernels/weight_tiles.h"

#include <ggml.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace pyramidkv {
namespace {

// 32 columns of one row. d and m are f16 bits, or scales within a K type.
struct Block {
  uint8_t quants[kBlockCols];
  uint16_t d = 0, m = 0;
};

const uint8_t* Bytes(const std::byte* p) {
  return reinterpret_cast<const uint8_t*>(p);
}

uint16_t Half(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof(half));
  return half;
}

void HalvesOfBytes(const uint8_t* qs, uint8_t* quants) {
  for (int i = 0; i < 16; ++i) {
    quants[i] = qs[i] & 15;
    quants[16 + i] = qs[i] >> 4;
  }
}

void AddFifthBits(const uint8_t* qh, uint8_t* quants) {
  uint32_t bits;
  std::memcpy(&bits, qh, sizeof(bits));
  for (int i = 0; i < kBlockCols; ++i) quants[i] |= (bits >> i & 1) << 4;
}

// 6-bit scale and minimum of block b of a Q4_K or Q5_K super-block.
void ScaleAndMin(const uint8_t* s, int b, Block* block) {
  if (b < 4) {
    block->d = s[b] & 63;
    block->m = s[b + 4] & 63;
  } else {
    block->d = (s[b + 4] & 15) | (s[b - 4] >> 6) << 4;
    block->m = s[b + 4] >> 4 | (s[b] >> 6) << 4;
  }
}

// Two blocks share 32 bytes: one the low halves, one the high ones.
void HalfOfSuper(const uint8_t* qs, int b, uint8_t* quants) {
  const uint8_t* from = qs + b / 2 * 32;
  for (int i = 0; i < kBlockCols; ++i) {
    quants[i] = b % 2 == 0 ? from[i] & 15 : from[i] >> 4;
  }
}

void SixBits(const uint8_t* super, int b, Block* block) {
  const int half = b / 4, quarter = b % 4;
  const uint8_t* ql = super + half * 64 + quarter % 2 * 32;
  const uint8_t* qh = super + 128 + half * 32;
  const uint8_t* scales = super + 192 + half * 8 + quarter * 2;
  for (int i = 0; i < kBlockCols; ++i) {
    const int low = quarter < 2 ? ql[i] & 15 : ql[i] >> 4;
    block->quants[i] = low | (qh[i] >> 2 * quarter & 3) << 4;
  }
  block->d = scales[0];
  block->m = scales[1];
}

// Block b of a row; layouts of ggml's block types.
Block ReadBlock(int type, const uint8_t* row, int b) {
  Block block;
  switch (type) {
    case GGML_TYPE_Q4_0:
      row += b * 18;
      HalvesOfBytes(row + 2, block.quants);
      break;
    case GGML_TYPE_Q4_1:
      row += b * 20;
      block.m = Half(row + 2);
      HalvesOfBytes(row + 4, block.quants);
      break;
    case GGML_TYPE_Q5_0:
      row += b * 22;
      HalvesOfBytes(row + 6, block.quants);
      AddFifthBits(row + 2, block.quants);
      break;
    case GGML_TYPE_Q5_1:
      row += b * 24;
      block.m = Half(row + 2);
      HalvesOfBytes(row + 8, block.quants);
      AddFifthBits(row + 4, block.quants);
      break;
    case GGML_TYPE_Q8_0:
      row += b * 34;
      for (int i = 0; i < kBlockCols; ++i) block.quants[i] = row[2 + i] ^ 128;
      break;
    case GGML_TYPE_Q4_K:
      row += b / kSuperBlocks * 144;
      ScaleAndMin(row + 4, b % kSuperBlocks, &block);
      HalfOfSuper(row + 16, b % kSuperBlocks, block.quants);
      return block;
    case GGML_TYPE_Q5_K:
      row += b / kSuperBlocks * 176;
      ScaleAndMin(row + 4, b % kSuperBlocks, &block);
      HalfOfSuper(row + 48, b % kSuperBlocks, block.quants);
      for (int i = 0; i < kBlockCols; ++i) {
        block.quants[i] |= (row[16 + i] >> b % kSuperBlocks & 1) << 4;
      }
      return block;
    default:  // GGML_TYPE_Q6_K
      SixBits(row + b / kSuperBlocks * 210, b % kSuperBlocks, &block);
      return block;
  }
  block.d = Half(row);
  return block;
}

// The f16 scales of a K type's super-block s.
void ReadSuper(int type, const uint8_t* row, int s, uint16_t* d, uint16_t* m) {
  switch (type) {
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K:
      row += s * (type == GGML_TYPE_Q4_K ? 144 : 176);
      *d = Half(row);
      *m = Half(row + 2);
      return;
    default:  // GGML_TYPE_Q6_K
      *d = Half(row + s * 210 + 208);
      *m = 0;
      return;
  }
}

void WriteQuants(const Block& block, int bits, int lane, uint8_t* to) {
  const uint8_t* q = block.quants;
  if (bits == 8) {
    for (int k = 0; k < 8; ++k)
      std::memcpy(to + k * 64 + lane * 4, q + 4 * k, 4);
    return;
  }
  for (int i = 0; i < 16; ++i) {
    to[i / 4 * 64 + lane * 4 + i % 4] = (q[i] & 15) | (q[16 + i] & 15) << 4;
  }
  for (int bit = 4; bit < bits; ++bit) {
    uint8_t* plane = to + bit * 64;
    for (int i = 0; i < kBlockCols; ++i) {
      // Bit 4 lane + i % 4 of the vector's 64 bits.
      plane[i / 4 * 8 + lane / 2] |= (q[i] >> bit & 1)
                                     << (lane % 2 * 4 + i % 4);
    }
  }
}

void WriteScales(const Block& block, BlockScales scales, int lane,
                 uint8_t* to) {
  switch (scales) {
    case BlockScales::kMin:
      std::memcpy(to + 2 * kGroupRows + 2 * lane, &block.m, 2);
      [[fallthrough]];
    case BlockScales::kZero:
      std::memcpy(to + 2 * lane, &block.d, 2);
      return;
    case BlockScales::kSuperMin:
    case BlockScales::kSuperHalves:
      to[lane] = static_cast<uint8_t>(block.d);
      to[kGroupRows + lane] = static_cast<uint8_t>(block.m);
      return;
  }
}

}  // namespace

TileFormat TileFormatOf(int type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return {4, BlockScales::kZero, 8};
    case GGML_TYPE_Q4_1:
      return {4, BlockScales::kMin, 0};
    case GGML_TYPE_Q5_0:
      return {5, BlockScales::kZero, 16};
    case GGML_TYPE_Q5_1:
      return {5, BlockScales::kMin, 0};
    case GGML_TYPE_Q8_0:
      return {8, BlockScales::kZero, 128};
    case GGML_TYPE_Q4_K:
      return {4, BlockScales::kSuperMin, 0};
    case GGML_TYPE_Q5_K:
      return {5, BlockScales::kSuperMin, 0};
    case GGML_TYPE_Q6_K:
      return {6, BlockScales::kSuperHalves, 32};
    default:
      return {};
  }
}

void PackTiles(const WeightMatrix& w, int group, std::byte* to) {
  const TileFormat format = TileFormatOf(w.type);
  DCHECK(format.bits > 0 && w.cols % kBlockCols == 0);
  const int first = group * kGroupRows;
  const int rows = std::min(kGroupRows, w.rows - first);
  auto* out = reinterpret_cast<uint8_t*>(to);
  std::memset(out, 0, format.group_bytes(w.cols));
  for (int b = 0; b < w.cols / kBlockCols; ++b) {
    if (format.super() && b % kSuperBlocks == 0) {
      for (int r = 0; r < rows; ++r) {
        uint16_t d, m;
        ReadSuper(w.type, Bytes(w.row(first + r)), b / kSuperBlocks, &d, &m);
        std::memcpy(out + 2 * r, &d, 2);
        if (format.scales == BlockScales::kSuperMin) {
          std::memcpy(out + 2 * kGroupRows + 2 * r, &m, 2);
        }
      }
      out += format.super_bytes();
    }
    for (int r = 0; r < rows; ++r) {
      const Block block = ReadBlock(w.type, Bytes(w.row(first + r)), b);
      WriteQuants(block, format.bits, r, out);
      WriteScales(block, format.scales, r, out + format.quant_bytes());
    }
    out += format.block_bytes();
  }
}

}  // namespace pyramidkv
