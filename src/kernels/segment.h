// Entries of a KV head as attention reads them: these slots of these pages, in
// this format. Each of the stores that hold a head's entries gives one segment
// of what a row sees there; no entry is seen in two of them.
//
// A segment is cut into parts every kPartSlots slots from its store's origin,
// whatever the row sees of it: so a row's result does not depend on what else
// is in a batch, nor on pages that were dropped in front.

#ifndef PYRAMIDKV_KERNELS_SEGMENT_H_
#define PYRAMIDKV_KERNELS_SEGMENT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_codec.h"

namespace pyramidkv {

inline constexpr int kPartSlots = 1024;  // a multiple of a page's entries

struct Segment {
  PageFormat format;
  const std::byte* const* pages = nullptr;
  // Slots count from the start of pages[0]; the row sees [begin, end), which
  // may be empty.
  int begin = 0;
  int end = 0;
  // Slots that were dropped before pages[0], a multiple of format.entries:
  // parts are cut where they would be had nothing been dropped.
  int origin = 0;
  // The entry in a slot: entries[slot], ascending; where that is null,
  // first_entry + slot. Slots that are not seen may have none (below 0).
  int first_entry = 0;
  const int32_t* entries = nullptr;
  // By page, a bit for each slot that is not seen after all; pages without a
  // word have none. Where nothing is seen, nothing is added to other segments.
  std::span<const uint64_t> unseen;
  // By entry, finite, added to the logits scale * q.k (the logarithm of the
  // count that a merged entry stands for). Null: none.
  const float* bias = nullptr;
  // Rounding of quantised keys (kernels/key_rounding.h), or null.
  const float* key_rounding = nullptr;

  bool empty() const { return begin >= end; }
  int entry(int slot) const {
    return entries != nullptr ? entries[slot] : first_entry + slot;
  }
  bool Sees(int slot) const {
    const auto page = static_cast<size_t>(slot / format.entries);
    return slot >= begin && slot < end &&
           (page >= unseen.size() ||
            (unseen[page] >> slot % format.entries & 1) == 0);
  }
  // The slot in which an entry is seen, or -1.
  int SlotOf(int wanted) const {
    int slot = wanted - first_entry;
    if (entries != nullptr && !empty()) {
      slot = static_cast<int>(
          std::lower_bound(entries + begin, entries + end, wanted) - entries);
      if (slot == end || entries[slot] != wanted) return -1;
    }
    return Sees(slot) ? slot : -1;
  }
  // A slot's entry as f32. k, v: [head_dim]; either may be null.
  void Load(int slot, float* k, float* v) const {
    LoadEntry(format, pages[slot / format.entries], slot % format.entries, k, v,
              key_rounding);
  }

  int first_part() const { return (origin + begin) / kPartSlots; }
  int parts() const {
    return empty() ? 0 : (origin + end - 1) / kPartSlots - first_part() + 1;
  }
  // Slots of part `part` of [0, parts()): [part_begin, part_end).
  int part_begin(int part) const {
    return std::max(begin, (first_part() + part) * kPartSlots - origin);
  }
  int part_end(int part) const {
    return std::min(end, (first_part() + part + 1) * kPartSlots - origin);
  }
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_SEGMENT_H_
