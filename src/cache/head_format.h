// How a cache holds the entries of a KV head: all of them in pages of one
// format and, where that one is quantised, some a second time in a finer one,
// in overlays (cache/overlay.h), where they are read. These are
//   the sinks: entries at the first positions,
//   the recent ones: with 4 bits per channel or fewer the newest positions,
//     and keys by channel that wait for the rest of their group,
//   the top ones: those that a compressor names, usually by score.
// They receive most of the attention, so their rounding errors cost most.
// Source of the recent ones: KIVI's residual window (arXiv 2402.02750).

#ifndef PYRAMIDKV_CACHE_HEAD_FORMAT_H_
#define PYRAMIDKV_CACHE_HEAD_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// Sinks are at positions before this one.
inline constexpr int kSinkPositions = 16;
// Entries of a page of an overlay; sinks fill one at most.
inline constexpr int kOverlayEntries = 16;
static_assert(kSinkPositions <= kOverlayEntries);
// Rows that are decoded in one call read alike: the first of them still finds
// the recent entries that it would find alone.
inline constexpr int kRecentSlack = 16;

// Tokens on which what entries are rounded by can be fitted: a sequence that
// has seen fewer goes on token by token, and fits again.
inline constexpr int kFitTokens = 32;

// The base is the format of the pages that hold all entries.
struct HeadFormat : PageFormat {
  // For sinks and recent ones.
  Codec recent = Codec::kF16;
  // For top ones; null: there are none.
  std::optional<Codec> top = std::nullopt;
  // Quantised entries of a head have one scale for all K and one for all V:
  // that of the first call that appends to it, if it has kFitTokens; larger
  // values later are cut off.
  bool tensor_scales = false;

  // Pages of overlays; a K or V that would be no finer there is as elsewhere.
  PageFormat recent_page() const { return OverlayPage(recent); }
  PageFormat top_page() const { return OverlayPage(top.value_or(k)); }
  bool has_sinks() const {
    const PageFormat finer = recent_page();
    return finer.k != k || finer.v != v;
  }
  // A token reads entries at so many positions up to its own there; 0: none.
  int recent_positions() const {
    const bool few = CodecBits(k) <= 4 || CodecBits(v) <= 4;
    if (!has_sinks()) return 0;
    return few ? 128 : channel ? kChannelGroup : 0;
  }
  // Keys by channel get codes when their group is complete: of `length` entries
  // those before this one.
  int FirstWaiting(int length) const {
    return channel ? length / kChannelGroup * kChannelGroup : length;
  }

  // The most slots that a head's recent entries take: whole pages.
  int most_recent_slots() const {
    const int positions = recent_positions();
    const int pages = 1 + (positions + kRecentSlack) / kOverlayEntries;
    return positions > 0 ? pages * kOverlayEntries : 0;
  }
  // The most bytes of overlays that do not grow with the entries of a head.
  int64_t overlay_bytes() const {
    const size_t page = has_sinks() ? recent_page().page_bytes() : 0;
    const int pages = 1 + most_recent_slots() / kOverlayEntries;
    return static_cast<int64_t>(pages * page +
                                (top ? top_page().page_bytes() : 0));
  }
  // A top entry's: its values there, and which entry it is.
  double top_entry_bytes() const {
    return static_cast<double>(top_page().page_bytes()) / kOverlayEntries +
           sizeof(int32_t);
  }
  // Tells a stored page of a cache from others.
  int64_t stored_page_bytes() const {
    const size_t page = has_sinks() ? recent_page().page_bytes() : 0;
    return static_cast<int64_t>(page_bytes() + page);
  }

 private:
  PageFormat OverlayPage(Codec codec) const {
    const auto finer = [codec](Codec own) {
      return IsQuantized(own) && CodecBits(own) < CodecBits(codec) ? codec
                                                                   : own;
    };
    return {head_dim, finer(k), finer(v), kOverlayEntries};
  }
};

// For each entry where some are top ones: whether it is.
inline constexpr double kTopMarkBytes = 1.0 / 8;

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_HEAD_FORMAT_H_
