// Attention of one row over the stored entries of one KV head, for all query
// heads of its group at once: every K and V row is read once.
//
// The segments that hold the entries (kernels/segment.h) are cut into parts at
// fixed slots, whatever the number of threads; parts are merged in order. So a
// row's result is the same in any batch and for any thread count.
//
// Source: flash decoding (split keys, merge by maximum and sum).

#ifndef PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_
#define PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_

#include <cstddef>

#include "base/aligned_buffer.h"
#include "kernels/segment.h"

namespace pyramidkv {

inline constexpr int kSharingHeads = 3;  // query heads in one pass over a page

// The queries of one row for one KV head.
struct DecodeQuery {
  int group = 0;             // query heads of the KV head
  float scale = 0;           // on q.k
  const float* q = nullptr;  // [group, head_dim]
  // Whether quantised entries are multiplied as integers where the CPU can.
  bool integers = true;
};

// Floats that one part's result takes: per query head a maximum, a sum and
// [head_dim] unnormalised outputs.
inline size_t DecodePartFloats(int group, int head_dim) {
  return size_t(group) * (head_dim + 2);
}

// Part `part` of [0, segment.parts()) into result [DecodePartFloats].
// scratch: grown as needed, reused from call to call. weights, if not null:
// [group, kPartSlots], what AddReceived makes probabilities of.
void AttendDecodePart(const Segment& segment, const DecodeQuery& query,
                      int part, AlignedBuffer<float>* scratch, float* result,
                      float* weights = nullptr);

// results: `parts` of them, one after the other. out: [group, head_dim].
void MergeDecodeParts(const float* results, int parts, int group, int head_dim,
                      float* out);

// Results of all parts of a row's attention, one after the other; those of a
// segment from part `first` on.
struct PartResults {
  const float* results = nullptr;
  int parts = 0;
  int first = 0;
};

// Adds what each entry receives from the row to received[entry]: its
// probability, in the mean over the group, for the slots [begin, end).
// weights: of the segment's own parts, one after the other. scratch: as above.
void AddReceived(const Segment& segment, int group, const PartResults& all,
                 const float* weights, AlignedBuffer<float>* scratch,
                 float* received);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_DECODE_H_
