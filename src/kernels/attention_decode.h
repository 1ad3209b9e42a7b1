// Attention of one row over the stored entries of one KV head, for all query
// heads of its group at once: every K and V row is read once.
//
// The entries are cut into parts at fixed slots, whatever the number of
// threads; parts are merged in order. So a row's result is the same in any
// batch and for any thread count.
//
// Source: flash decoding (split keys, merge by maximum and sum).

#ifndef PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_
#define PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/aligned_buffer.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

inline constexpr int kPartSlots = 1024;  // a multiple of a page's entries
inline constexpr int kSharingHeads = 3;  // query heads in one pass over a page

// One row over one KV head. Slots count from the start of pages[0]; the row
// sees [begin, end), not empty.
struct DecodeHead {
  PageFormat format;
  const std::byte* const* pages = nullptr;
  int begin = 0;
  int end = 0;
  // Slots that were dropped before pages[0], a multiple of format.entries:
  // parts are cut where they would be had nothing been dropped.
  int origin = 0;
  int group = 0;
  float scale = 0;           // on q.k
  const float* q = nullptr;  // [group, head_dim]
  // By slot, finite, added to the logits scale * q.k (the logarithm of the
  // count that a merged entry stands for). Null: none.
  const float* bias = nullptr;
  // By page, a bit for each slot that is not seen after all; pages without a
  // word have none. A head of which nothing is seen adds nothing to others.
  std::span<const uint64_t> unseen;
  // What quantised keys were rounded by (kernels/key_rounding.h), or null.
  const float* key_rounding = nullptr;
  // Whether quantised entries are multiplied as integers where the CPU can.
  bool integers = true;

  int first_part() const { return (origin + begin) / kPartSlots; }
  int parts() const {
    return (origin + end - 1) / kPartSlots - first_part() + 1;
  }
  // Slots of part `part` of [0, parts()): [part_begin, part_end).
  int part_begin(int part) const {
    return std::max(begin, (first_part() + part) * kPartSlots - origin);
  }
  int part_end(int part) const {
    return std::min(end, (first_part() + part + 1) * kPartSlots - origin);
  }
};

// Floats that one part's result takes: per query head a maximum, a sum and
// [head_dim] unnormalised outputs.
inline size_t DecodePartFloats(int group, int head_dim) {
  return size_t(group) * (head_dim + 2);
}

// Part `part` of [0, head.parts()) into result [DecodePartFloats].
// scratch: grown as needed, reused from call to call. weights, if not null:
// [group, kPartSlots], what AddReceived makes probabilities of.
void AttendDecodePart(const DecodeHead& head, int part,
                      AlignedBuffer<float>* scratch, float* result,
                      float* weights = nullptr);

// results: `parts` of them, one behind the other. out: [group, head_dim].
void MergeDecodeParts(const float* results, int parts, int group, int head_dim,
                      float* out);

// Results of all parts of a row's attention, one behind the other; those of a
// head from part `first` on. There may be others, where its entries lie in
// pages of more than one format.
struct PartResults {
  const float* results = nullptr;
  int parts = 0;
  int first = 0;
};

// What each entry receives from the row: received[slot] += its probability,
// in the mean over the group, for the slots [begin, end).
// weights: of the head's own parts, one behind the other.
void AddReceived(const DecodeHead& head, const PartResults& all,
                 const float* weights, float* received);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_
