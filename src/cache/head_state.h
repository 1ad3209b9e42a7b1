// A KV head without its pages, in a form that can be stored.

#ifndef PYRAMIDKV_CACHE_HEAD_STATE_H_
#define PYRAMIDKV_CACHE_HEAD_STATE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "cache/entry_sides.h"
#include "cache/head_format.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// See KvHead's invariants.
struct HeadState {
  EntrySides sides;
  int32_t seen = 0;  // one past the newest position appended
  // Rounding of quantised keys (kernels/key_rounding.h), or empty.
  std::vector<float> key_rounding;
  // The scales of all keys and of all values (HeadFormat::tensor_scales), once
  // there are entries; 0: none.
  std::array<float, 2> tensor_scales = {0, 0};
  // Keys by channel: entries from here on have no code yet, and are recent
  // ones. Else 0.
  int32_t coded = 0;
  // Entries from here on are held as recent ones, too; below 0: their first
  // slots are of entries that left. Without any: the number of entries.
  int32_t recent_begin = 0;
  // Top entries, ascending; none of them is a sink. Below 0: slots of entries
  // that left.
  std::vector<int32_t> top;
  int32_t top_origin = 0;  // slots of top entries that left before top[0]
};

// Whether a head of a sequence that has seen `position` tokens can be like
// this: what all methods of KvHead take for granted.
// Errors: kModel, what is wrong.
Status CheckHeadState(const HeadState& state, const HeadFormat& format,
                      int position);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_HEAD_STATE_H_
