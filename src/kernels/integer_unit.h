// The unit in which a group of floats becomes whole numbers: one rule for all
// kernels that round on the fly (queries, activations, 16-bit rows).
//
//   whole number = round(value * factor), at most `limit` in magnitude
//   value        ~ whole number * unit
//
// A group that holds an infinity or a NaN has no whole numbers: no integer
// stands for such a value, and converting it gives one that overflows sums.
// All of them are 0 then and the unit is NaN, so that every result that the
// group takes part in is NaN, too, and the run is refused by its logits.
//
// No errors. Callable from any thread, and from code that is compiled for any
// CPU: always inlined, so that nothing of it is merged into code for others.

#ifndef PYRAMIDKV_KERNELS_INTEGER_UNIT_H_
#define PYRAMIDKV_KERNELS_INTEGER_UNIT_H_

#include <cfloat>
#include <cstdint>

namespace pyramidkv {

struct IntegerUnit {
  float factor;  // 0: the group is zero, or too small for its inverse
  float unit;
  int32_t keep;  // mask of the whole numbers: all bits, or none
};

// most: the largest magnitude of the group, infinite or NaN if one value is.
// Compared as integers, a NaN is the largest of all magnitudes. Groups of up
// to `least` >= 0 become zeros.
[[gnu::always_inline]] inline IntegerUnit IntegerUnitFor(float most,
                                                         float limit,
                                                         float least) {
  const bool finite = most <= FLT_MAX;  // a NaN is not
  const float factor = limit / most;
  const bool usable = finite && most > least && factor <= FLT_MAX;
  return {usable ? factor : 0.0f, finite ? most / limit : __builtin_nanf(""),
          finite ? -1 : 0};
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_INTEGER_UNIT_H_
