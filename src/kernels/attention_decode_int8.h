// Decode attention over quantised entries in integers: the codes are
// multiplied as they lie in the page, by queries and weights that are rounded
// to integers, too, and only sums become floats.
//
// A query is rotated, then rounded to 16 bits (8 bits for int4 keys) for each
// group of 32 channels; weights times the scales of V to 16 bits for each
// group and page. Both are an order of magnitude finer than the entries.
//
// REQUIRES: HasInt8Form(Int8Form::kVnni). Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_
#define PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// One group of channels of a query: 256 * codes[0] + codes[1], or codes[1]
// alone, times the scale.
struct IntegerQuery {
  int8_t codes[2][kQuantGroup];
  float scale;
  int32_t start;  // what sums of products begin with: minus their zero
};

// q: [heads, head_dim], rotated. to: [heads, QuantGroups(head_dim)].
void RoundQueries(Codec k, const float* q, int heads, int head_dim,
                  IntegerQuery* to);

// The K or V half of a page.
struct IntegerHalf {
  Codec codec;
  int head_dim;
  int page_entries;
  const std::byte* half;
  int begin, end;  // the entries that are seen
};

// scores[h * kPageEntries + slot] = k . q[h], up to a multiple of 16 slots;
// before `begin` and from `end` on they may be anything.
// REQUIRES: heads == 1 or kSharingHeads.
void ScoreIntegers(const IntegerHalf& k, const IntegerQuery* q, int heads,
                   float* scores);

// acc[h * acc_stride + 0 .. head_dim) += v * p. p: [heads, kPageEntries], zero
// beside the entries. heads as above.
void AddIntegerValues(const IntegerHalf& v, const float* p, int heads,
                      size_t acc_stride, float* acc);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_
