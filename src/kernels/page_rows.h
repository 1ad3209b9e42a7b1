// Entries of a page in bulk, in the forms that a prompt's attention and the
// scorers read: bf16 with values in pairs (kernels/attention_prefill.h), and
// f32. The same values as LoadEntry's (kernels/kv_codec.h), several times as
// fast for f16.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_PAGE_ROWS_H_
#define PYRAMIDKV_KERNELS_PAGE_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// Where the rows of entry 0 of a page begin. Null: not wanted.
struct PageRows {
  float* k = nullptr;       // [count, head_dim]
  float* v = nullptr;       // [count, head_dim]
  uint16_t* k16 = nullptr;  // [count, head_dim] bf16
  // [(count + 1) / 2, head_dim, 2] bf16, a last odd half zero.
  uint16_t* v16 = nullptr;
};

// The first `count` entries of a page. REQUIRES: 0 < count <= kPageEntries.
void LoadPage(const PageFormat& format, const std::byte* page, int count,
              const PageRows& to);

// One row [head_dim] of bf16 values into its half of a pair; `pairs` is where
// the pair of entry 0 begins.
void StoreValueRow(const float* v, int head_dim, size_t entry, uint16_t* pairs);

// n values to f16 and back, rounded to nearest even as the codec does.
void ToF16(const float* from, size_t n, uint16_t* to);
void FromF16(const uint16_t* from, size_t n, float* to);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_PAGE_ROWS_H_
