#include "cache/head_state.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "kernels/key_rounding.h"

namespace pyramidkv {
namespace {

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

Status CheckSides(const EntrySides& s, int seen, int position) {
  if (s.length < 0 || seen < s.length || seen > position) {
    return Bad("a head holds more entries than there were tokens");
  }
  if (!Fits(s.positions.size(), s.length) || !Fits(s.bias.size(), s.length) ||
      !Fits(s.scores.size(), s.length) || !Fits(s.rope.size(), s.length)) {
    return Bad("a head has another number of positions than entries");
  }
  if (s.base < 0 || (s.positions.empty() && s.base > seen - s.length)) {
    return Bad("a head has entries past its last token");
  }
  if (!Ascend(s.positions, seen)) {
    return Bad("positions of a head do not ascend");
  }
  for (int32_t r : s.rope) {
    if (r < 0 || r >= position) return Bad("a key is rotated past the end");
  }
  return {};
}

Status CheckScales(const HeadState& s, const HeadFormat& format) {
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
  return {};
}

Status CheckRecent(const HeadState& s, const HeadFormat& format) {
  const int32_t length = s.sides.length;
  if (s.recent_begin > length ||
      s.recent_begin < length - format.most_recent_slots()) {
    return Bad("a head holds more recent entries than there can be");
  }
  const bool sound = format.channel
                         ? s.coded >= format.FirstWaiting(length) &&
                               s.coded <= length &&
                               (s.coded == length || s.recent_begin <= s.coded)
                         : s.coded == 0;
  return sound ? Status() : Bad("a head has keys that are nowhere");
}

Status CheckTop(const HeadState& s, const HeadFormat& format, int position) {
  const int sinks = format.has_sinks() ? s.sides.LowerBound(kSinkPositions) : 0;
  for (size_t i = 0; i < s.top.size(); ++i) {
    const int32_t entry = s.top[i];
    const bool ascends = i == 0 || entry > s.top[i - 1];
    const bool apart =
        entry >= -position &&
        (entry < 0 || (entry >= sinks && entry < s.sides.length));
    if (!format.top || !ascends || !apart) {
      return Bad("a head holds no such entries finer than others");
    }
  }
  const size_t page = kOverlayEntries;
  if (!s.top.empty() && s.top[std::min(s.top.size(), page) - 1] < 0) {
    return Bad("a head holds finer entries that left");
  }
  if (s.top_origin < 0 || s.top_origin > position ||
      s.top_origin % kOverlayEntries != 0) {
    return Bad("a head held other finer entries than there can be");
  }
  return {};
}

}  // namespace

Status CheckHeadState(const HeadState& state, const HeadFormat& format,
                      int position) {
  PKV_RETURN_IF_ERROR(CheckSides(state.sides, state.seen, position));
  PKV_RETURN_IF_ERROR(CheckScales(state, format));
  PKV_RETURN_IF_ERROR(CheckRecent(state, format));
  return CheckTop(state, format, position);
}

}  // namespace pyramidkv
