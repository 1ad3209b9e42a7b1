// What a head of a KvCache is beside its pages, in a form that can be stored.

#ifndef PYRAMIDKV_CACHE_KV_CACHE_IO_H_
#define PYRAMIDKV_CACHE_KV_CACHE_IO_H_

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/kv_codec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// See KvCache's invariants.
struct HeadState {
  int32_t length = 0;
  int32_t base = 0;  // position of entry 0
  int32_t seen = 0;  // one past the newest position appended
  // Truncate(p) is refused for evicted_from < p < evicted_before: the lowest
  // evicted position, and `seen` at the last eviction.
  int32_t evicted_from = std::numeric_limits<int32_t>::max();
  int32_t evicted_before = 0;
  std::vector<int32_t> positions;   // [length], or empty: base + i
  std::vector<float> bias, scores;  // [length], or empty
  std::vector<int32_t> rope;        // [length], or empty: as position
  // What quantised keys are rounded by (kernels/key_rounding.h), or empty.
  std::vector<float> key_rounding;
  // The scales of all keys and of all values (KvShape::tensor_scales), once
  // there are entries; 0: none.
  std::array<float, 2> tensor_scales = {0, 0};
  // Keys by channel: entries from here on have no code yet, and are in the
  // recent pages. Else 0.
  int32_t coded = 0;
  // Entries from here on are in the recent pages, too; below 0: their first
  // slots are of entries that left.
  int32_t recent_begin = 0;
  // Entries that are in the top pages, ascending; none of them is in the page
  // of the first ones. Below 0: slots of entries that left.
  std::vector<int32_t> top;
  // Slots of top pages that left before the first one.
  int32_t top_origin = 0;

  // The first entry at or after a position.
  int LowerBound(int at) const;
};

// Whether a head of a sequence that has seen `position` tokens can be like
// this in pages of a format, with top pages or without: what all methods of
// KvCache take for granted.
// Errors: kModel, what is wrong.
Status CheckHeadState(const HeadState& state, const PageFormat& format,
                      bool has_top, int position);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_CACHE_IO_H_
