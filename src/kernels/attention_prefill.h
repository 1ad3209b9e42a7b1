// Attention of a tile of prompt rows over one KV head: tiled, with an online
// softmax, so that no rows x entries matrix exists.
//
// Queries lie in lanes: a lane is one (row, query head) pair, so a row's
// result depends on its own query and the order of the entries alone - never
// on the tile it shares, on slicing or on threads. Blocks of entries begin at
// multiples of kKeyBlock whatever the tile. Many rows in one call read each
// block once, and fill the vectors where a group is small.
//
// Source: online softmax of FlashAttention (arXiv 2205.14135), algorithm 1.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_PREFILL_H_
#define PYRAMIDKV_KERNELS_ATTENTION_PREFILL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"

namespace pyramidkv {

inline constexpr int kQueryTile = 16;     // rows side by side in lanes
inline constexpr int kMaxQueryRows = 48;  // of a call: whole tiles
inline constexpr int kKeyBlock = 128;     // entries that are read at once
inline constexpr int kKeyTile = 8;        // entries whose scores are, at most

// `rows` <= kMaxQueryRows consecutive rows of one sequence.
struct PrefillTile {
  int rows = 0;
  int group = 0;     // query heads of the KV head
  int head_dim = 0;  // multiple of 8
  float scale = 0;   // on q.k
  // q row i, head g: q + i * q_stride + g * head_dim; out likewise.
  const float* q = nullptr;
  size_t q_stride = 0;
  float* out = nullptr;
  size_t out_stride = 0;
  // Log-sum-exp (natural) of a row's logits scale * q.k + bias: row i, head g
  // at lse + i * lse_stride + g. Null: not wanted.
  float* lse = nullptr;
  size_t lse_stride = 0;
  // [entries], finite, added to the logits of each entry (the logarithm of
  // the count that a merged entry stands for). Null: none.
  const float* bias = nullptr;
  // Row i sees the entries [begin[i], end[i]); both never fall with i, and
  // begin[i] < end[i].
  int begin[kMaxQueryRows] = {};
  int end[kMaxQueryRows] = {};
  // Entries that were dropped before entry 0 (even): blocks are cut where
  // they would be had nothing been dropped.
  int origin = 0;

  // The block of entries that holds `entry`, from its first entry on.
  int BlockOf(int entry) const;
  // [blocks from entry 0 on] blocks that no row attends to; null: none.
  // REQUIRES: origin is 0, and the blocks of the rows' own entries are not
  // among them.
  const uint8_t* skip = nullptr;

  bool skips(int block) const {
    return skip != nullptr && skip[block / kKeyBlock] != 0;
  }
  // Lanes: whole query tiles of every head.
  int columns() const {
    return (rows + kQueryTile - 1) / kQueryTile * kQueryTile * group;
  }
};

inline int PrefillTile::BlockOf(int entry) const {
  return (origin + entry) / kKeyBlock * kKeyBlock - origin;
}

// Memory that one worker reuses from call to call; sized before each call.
struct PrefillScratch {
  void Resize(int group, int head_dim) {
    const size_t columns = size_t(group) * kMaxQueryRows;
    q.Resize(head_dim * columns);
    scores.Resize(size_t(kKeyBlock + kKeyTile) * 3 * kQueryTile);
    sums.Resize(3 * columns);
    out.Resize(head_dim * columns);
    probs.Resize(size_t(kKeyBlock) * 3 * kQueryTile);
    cut_keys.Resize(size_t(kKeyTile) * head_dim);
    cut_bias.Resize(kKeyTile);
    limits.Resize(2 * kMaxQueryRows);
  }
  AlignedBuffer<float> q, scores, sums, out;
  // bf16 and int16 forms only:
  AlignedBuffer<uint16_t> probs, cut_keys;
  AlignedBuffer<float> cut_bias;
  AlignedBuffer<int> limits;  // [2, kMaxQueryRows] begins and ends
};

// k, v: [entries, head_dim] f32. REQUIRES: scratch sized for the tile.
void AttendPrefill(const PrefillTile& tile, const float* k, const float* v,
                   PrefillScratch* scratch);

// bf16 products with f32 sums. k [entries, head_dim] bf16; v in entry pairs,
// [(entries + 1) / 2, head_dim, 2] bf16, a last odd half zero.
// REQUIRES: a CPU with what FormNeeds(kBf16) says, scratch sized for the tile.
void AttendPrefillBf16(const PrefillTile& tile, const uint16_t* k,
                       const uint16_t* v, PrefillScratch* scratch);

// The entries of the int16 form: rows of kernels/int16_rows.h.
struct Int16Entries {
  const int16_t* k;      // [entries, head_dim]
  const float* k_scale;  // [entries]
  const int16_t* v;      // [(entries + 1) / 2, head_dim, 2]
  const float* v_scale;  // [entries]
};

// Products of 16-bit integers with exact 32-bit sums. REQUIRES: a CPU with
// what FormNeeds(kInt16) says, scratch sized for the tile.
void AttendPrefillInt16(const PrefillTile& tile, const Int16Entries& entries,
                        PrefillScratch* scratch);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_PREFILL_H_
