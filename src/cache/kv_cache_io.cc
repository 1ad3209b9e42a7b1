#include "cache/kv_cache_io.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "cache/kv_cache.h"
#include "kernels/key_rounding.h"

namespace pyramidkv {
namespace {

// Far above what FineRecent says, so that no file can ask for much memory.
constexpr int kMostRecent = 1024;

Status Bad(const char* what) {
  return Status::Model(std::string("damaged: ") + what);
}

bool Fits(size_t size, int32_t length) {
  return size == 0 || size == static_cast<size_t>(length);
}

bool Ascend(const std::vector<int32_t>& positions, int32_t end) {
  int32_t last = -1;
  for (int32_t p : positions) {
    if (p <= last || p >= end) return false;
    last = p;
  }
  return true;
}

}  // namespace

int HeadState::LowerBound(int at) const {
  return FirstEntryAt(positions.empty() ? nullptr : positions.data(), base,
                      length, at);
}

Status CheckHeadState(const HeadState& s, const PageFormat& format,
                      bool has_top, int position) {
  if (s.length < 0 || s.seen < s.length || s.seen > position) {
    return Bad("a head holds more entries than there were tokens");
  }
  if (!Fits(s.positions.size(), s.length) || !Fits(s.bias.size(), s.length) ||
      !Fits(s.scores.size(), s.length) || !Fits(s.rope.size(), s.length)) {
    return Bad("a head has another number of positions than entries");
  }
  if (!s.key_rounding.empty() &&
      (!IsQuantized(format.k) ||
       !IsKeyRounding(s.key_rounding, format.head_dim))) {
    return Bad("keys of a head have no such mean and weights");
  }
  for (float scale : s.tensor_scales) {
    if (!(scale >= 0 && std::isfinite(scale))) {
      return Bad("entries of a head have no such scale");
    }
  }
  if (s.recent_begin > s.length || s.recent_begin < s.length - kMostRecent) {
    return Bad("a head holds more recent entries than there can be");
  }
  if (format.channel
          ? s.coded < FirstWaiting(format, s.length) || s.coded > s.length ||
                (s.coded < s.length && s.recent_begin > s.coded)
          : s.coded != 0) {
    return Bad("a head has keys that are nowhere");
  }
  if (s.base < 0 || (s.positions.empty() && s.base > s.seen - s.length)) {
    return Bad("a head has entries past its last token");
  }
  if (!Ascend(s.positions, s.seen)) {
    return Bad("positions of a head do not ascend");
  }
  const int fine = HasFinePages(format) ? s.LowerBound(kFinePositions) : 0;
  for (size_t i = 0; i < s.top.size(); ++i) {
    const int32_t entry = s.top[i];
    const bool ascends = i == 0 || entry > s.top[i - 1];
    const bool apart = entry >= -position &&
                       (entry < 0 || (entry >= fine && entry < s.length));
    if (!has_top || !ascends || !apart) {
      return Bad("a head holds no such entries finer than others");
    }
  }
  const size_t last =
      s.top.size() < kFinePositions ? s.top.size() - 1 : kFinePositions - 1;
  if (!s.top.empty() && (s.top[last] < 0 || !s.bias.empty())) {
    return Bad("a head holds finer entries that left, or were merged");
  }
  if (s.top_origin < 0 || s.top_origin > position ||
      s.top_origin % kFinePositions != 0) {
    return Bad("a head held other finer entries than there can be");
  }
  for (int32_t r : s.rope) {
    if (r < 0 || r >= position) return Bad("a key is rotated past the end");
  }
  if (s.evicted_from < 0 || s.evicted_before < 0 ||
      s.evicted_before > position) {
    return Bad("entries were evicted that were never there");
  }
  return {};
}

}  // namespace pyramidkv
