// Which entries of a quantised cache are held finer as well (PageFormat::fine,
// f16 if nothing else is said), and read there: those at the first positions,
// and with 4 bits per channel or fewer the newest ones. Both receive most of
// the attention, so their rounding errors cost most. Fine pages are of
// kFinePositions entries; KvCache keeps them.

#ifndef PYRAMIDKV_CACHE_FINE_PAGES_H_
#define PYRAMIDKV_CACHE_FINE_PAGES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// At positions before this one.
inline constexpr int kFinePositions = 16;

// What fine pages are like, and whether a cache has any.
constexpr Codec FineCodec(Codec codec, Codec fine) {
  return CodecBits(codec) < CodecBits(fine) && IsQuantized(codec) ? fine
                                                                  : codec;
}
constexpr PageFormat FineFormat(const PageFormat& format) {
  return {format.head_dim, FineCodec(format.k, format.fine),
          FineCodec(format.v, format.fine), kFinePositions};
}
constexpr bool HasFinePages(const PageFormat& format) {
  const PageFormat fine = FineFormat(format);
  return fine.k != format.k || fine.v != format.v;
}
// Bytes of one; 0: there are none.
inline size_t FinePageBytes(const PageFormat& format) {
  return HasFinePages(format) ? FineFormat(format).page_bytes() : 0;
}
// A token reads entries at so many positions up to its own there.
constexpr int FineRecent(const PageFormat& format) {
  const bool few = CodecBits(format.k) <= 4 || CodecBits(format.v) <= 4;
  if (!HasFinePages(format)) return 0;
  return few ? 128 : format.channel ? kChannelGroup : 0;
}
// Keys by channel wait there until their group is complete: of `length` entries
// those from this one on.
constexpr int FirstWaiting(const PageFormat& format, int length) {
  return format.channel ? length / kChannelGroup * kChannelGroup : length;
}
// Rows that are decoded in one call read alike: the first of them still finds
// what it would alone.
inline constexpr int kFineSlack = 16;
inline size_t FinePagesFor(size_t entries) {
  return (entries + kFinePositions - 1) / kFinePositions;
}
// The most bytes of fine pages that a head has.
inline int64_t FineBytes(const PageFormat& format) {
  const int recent = FineRecent(format);
  const int pages = recent > 0 ? 2 + (recent + kFineSlack) / kFinePositions : 1;
  return static_cast<int64_t>(pages * FinePageBytes(format));
}
// What a stored page of a cache is told from others by.
inline int64_t StoredPageBytes(const PageFormat& format) {
  return static_cast<int64_t>(format.page_bytes() + FinePageBytes(format));
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_FINE_PAGES_H_
