// Which entries of a quantised cache are held finer because of their scores:
// the best of what a prompt left in a head, as a compressor says. What the
// others' pages hold of them as well is not read; they are marked there.

#ifndef PYRAMIDKV_CACHE_TOP_PAGES_H_
#define PYRAMIDKV_CACHE_TOP_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "cache/fine_pages.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

// Pages of them: as many entries as other fine pages have.
constexpr PageFormat TopFormat(const PageFormat& format, Codec top) {
  return {format.head_dim, FineCodec(format.k, top), FineCodec(format.v, top),
          kFinePositions};
}

// Of one of them: its values, and which entry it is.
inline double TopEntryBytes(const PageFormat& top) {
  return static_cast<double>(top.page_bytes()) / kFinePositions +
         sizeof(int32_t);
}
// Of every entry: whether it is one of them.
inline constexpr double kTopMarkBytes = 1.0 / 8;

// The most bytes of a head that do not grow with its entries.
inline int64_t HeadBytes(const PageFormat& format, std::optional<Codec> top) {
  const size_t page = top ? TopFormat(format, *top).page_bytes() : 0;
  return FineBytes(format) + static_cast<int64_t>(page);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TOP_PAGES_H_
