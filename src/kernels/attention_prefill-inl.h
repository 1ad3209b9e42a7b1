// How the forms of kernels/attention_prefill.h put rows into lanes: vectors of
// lanes hold rows of one query head after the other, and what lanes see never
// falls from lane to lane and from vector to vector.
//
// Plain code for all targets: always inlined, so that nothing of it is
// compiled for one CPU and then merged into code for others.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_PREFILL_INL_H_
#define PYRAMIDKV_KERNELS_ATTENTION_PREFILL_INL_H_

#include <limits>

#include "kernels/attention_prefill.h"

namespace pyramidkv {

// The entries that each lane of some vectors sees. Lanes without a row repeat
// the last row; nobody reads their result.
template <int kVectors, int kLanes>
struct LanesSee {
  const int* begin[kVectors];  // [kLanes] each
  const int* end[kVectors];

  // Bounds of what some row sees, and whether all rows see a range.
  [[gnu::always_inline]] int first() const { return begin[0][0]; }
  [[gnu::always_inline]] int last() const {
    return end[kVectors - 1][kLanes - 1];
  }
  [[gnu::always_inline]] bool all_see(int from, int to) const {
    return begin[kVectors - 1][kLanes - 1] <= from && to <= end[0][0];
  }

  // limits: PrefillScratch::limits, of the lanes of vector x from `row` on.
  [[gnu::always_inline]] void Set(int x, const int* limits, int row) {
    begin[x] = limits + row;
    end[x] = begin[x] + kMaxQueryRows;
  }

  // Scores [.., kVectors * kLanes] of the entries [from, to) of a block that
  // begins at `first_entry`: outside a row's range they become the lowest
  // float, which exp turns to 0.
  [[gnu::always_inline]] void Mask(int first_entry, int from, int to,
                                   float* scores) const {
    constexpr float kLowest = std::numeric_limits<float>::lowest();
    constexpr int kWidth = kVectors * kLanes;
    for (int x = 0; x < kVectors; ++x) {
      for (int i = 0; i < kLanes; ++i) {
        float* const s = scores + x * kLanes + i;
        const int low = begin[x][i] - first_entry;
        for (int j = from; j < (low < to ? low : to); ++j) {
          s[j * kWidth] = kLowest;
        }
        const int high = end[x][i] - first_entry;
        for (int j = high > from ? high : from; j < to; ++j) {
          s[j * kWidth] = kLowest;
        }
      }
    }
  }
};

// limits [2, kMaxQueryRows]: begins and ends of a tile's rows.
[[gnu::always_inline]] inline void SetLimits(const PrefillTile& t,
                                             int* limits) {
  for (int i = 0; i < kMaxQueryRows; ++i) {
    const int row = i < t.rows ? i : t.rows - 1;
    limits[i] = t.begin[row];
    limits[kMaxQueryRows + i] = t.end[row];
  }
}

// Where vectors are always taken some at a time.
template <int kVectors, int kLanes>
struct FixedVectors {
  [[gnu::always_inline]] static int Count(const PrefillTile& t) {
    return (t.rows + kLanes - 1) / kLanes * t.group;
  }
  // The first row of a vector. After the last one it is repeated.
  [[gnu::always_inline]] static int RowOf(const PrefillTile& t, int vector) {
    const int last = Count(t) - 1;
    return (vector < last ? vector : last) / t.group * kLanes;
  }
  // f(the first vector) for all of them, kVectors at a time.
  template <class F>
  [[gnu::always_inline]] static void ForEach(const PrefillTile& t, const F& f) {
    const int count = Count(t);
    for (int vector = 0; vector < count; vector += kVectors) f(vector);
  }
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_PREFILL_INL_H_
