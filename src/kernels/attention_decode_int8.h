// Decode attention over quantised entries in integers: the codes are
// multiplied as they lie in the page, by queries and weights that are rounded
// to integers, too, and only sums become floats.
//
// A query is rotated, then rounded to 16 bits (8 bits for int4 keys) for each
// group of 32 channels; weights times the scales of V to 16 bits for each
// group and page. Both are an order of magnitude finer than the entries. Where
// all weights of a page are small beside the sum so far, and scales alike,
// those of entries of 4 and 2 bits may have 7 bits: each is rounded up or down
// by a threshold of its slot, so that small ones do not vanish.
//
// Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_
#define PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/cpu.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

// One group of channels of a query, as the form that rounded it reads it.
struct IntegerQuery {
  int8_t codes[2][kQuantGroup];  // 8 or 16 bits each, times the scale
  float scale;
  int32_t start;  // what sums of products begin with: minus their zero
};

// The K or V half of a page, of which the entries [begin, end) are seen.
struct IntegerHalf {
  IntegerHalf(Codec codec, int head_dim, int page_entries,
              const std::byte* half, int begin, int end);

  Codec codec;
  int head_dim;
  int page_entries;
  int begin, end;
  int groups;              // of channels
  int blocks;              // of 16 entries, up to `end`
  const uint8_t* codes;    // as kernels/kv_quant.h has them
  const uint16_t* scales;  // f16 [groups, page_entries]
  // The page that is read next, and may be asked for on the way.
  const std::byte* next = nullptr;
  size_t next_bytes = 0;
};

// heads, in all of these: 1 or kSharingHeads.
struct IntegerForm {
  const char* name;
  CpuFeatures needs;

  // q: [heads, head_dim], rotated. to: [heads, QuantGroups(head_dim)].
  void (*round_queries)(Codec k, const float* q, int heads, int head_dim,
                        IntegerQuery* to);

  // scores[h * kPageEntries + slot] = k . q[h], up to a multiple of 16 slots;
  // before `begin` and from `end` on they may be anything.
  void (*score)(const IntegerHalf& k, const IntegerQuery* q, int heads,
                float* scores);

  // acc[h * acc_stride + 0 .. head_dim) += v * p. p: [heads, kPageEntries],
  // not negative, zero beside the entries. sums: [heads], of all weights so
  // far.
  void (*add_values)(const IntegerHalf& v, const float* p, const float* sums,
                     int heads, size_t acc_stride, float* acc);
};

const IntegerForm& VnniForm();
const IntegerForm& Avx2Form();

// All of them, the fastest first.
std::array<const IntegerForm*, 2> IntegerForms();

// The fastest that the CPU runs; null if there is none.
const IntegerForm* BestIntegerForm(const CpuFeatures& cpu = Cpu());

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_H_
