// Rows of keys, values and queries as 16-bit integers with one scale each:
// what prompt attention multiplies where the CPU has no bf16
// (kernels/attention_prefill.h). A row's integers depend on that row alone.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_INT16_ROWS_H_
#define PYRAMIDKV_KERNELS_INT16_ROWS_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

// The products of two rows of this length sum to less than 2^31: half a unit
// of rounding in each element lengthens them by no more than what is missing
// to its root.
inline constexpr float kInt16RowLength = 46300.0f;
// The largest magnitude of an element: -2^15 is none.
inline constexpr float kInt16Max = 32767.0f;

// x[i] is about to[i] times the scale that is returned. The largest magnitude
// becomes kInt16Max, or less where the row would be longer than
// kInt16RowLength. A row with a value that is not finite becomes zeros with a
// scale of NaN. REQUIRES: n is a multiple of 8, up to 4096.
float ToInt16Row(const float* x, size_t n, int16_t* to);

// A row of values [head_dim] into its half of a pair, the largest magnitude as
// kInt16Max; `pairs` [entries / 2, head_dim, 2] is where the pair of entry 0
// begins. Returns the scale; of values that are not finite as above.
float StoreInt16Values(const float* v, int head_dim, size_t entry,
                       int16_t* pairs);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_INT16_ROWS_H_
