// Keys by channel in a KvCache: they get their codes when a group of entries is
// complete (kernels/channel_keys.h).

#include <algorithm>
#include <vector>

#include "cache/kv_cache_head.h"
#include "kernels/channel_keys.h"

namespace pyramidkv {
namespace {

void StoreGroupOf(const PageFormat& format, int entry, int count,
                  const float* k, std::byte* const* pages) {
  StoreKeyGroup(format, entry % kPageEntries / kChannelGroup, count, k,
                pages[entry / kPageEntries]);
}

}  // namespace

// Keys of the group that is not complete, [entries, head_dim], if `count` more
// entries complete it.
std::vector<float> KvCache::WaitingKeys(const Head& head, int count) const {
  if (!shape_.format.channel) return {};
  const size_t d = shape_.format.head_dim;
  const int first = FirstWaiting(shape_.format, head.length);
  if (FirstWaiting(shape_.format, head.length + count) == first) return {};
  std::vector<float> keys(size_t(head.length - first) * d);
  for (int i = first; i < head.length; ++i) {
    LoadOne(head, i, &keys[size_t(i - first) * d], nullptr);
  }
  return keys;
}

// Codes for the groups that `rows` have completed, behind `length` entries of
// which some waited.
void KvCache::CodeKeys(Head& head, int length,
                       const std::vector<float>& waiting, const Rows& rows) {
  const PageFormat& format = shape_.format;
  if (!format.channel) return;
  const size_t d = format.head_dim;
  const int first = FirstWaiting(format, length);
  const int end = FirstWaiting(format, head.length);
  std::vector<float> group(kChannelGroup * d);
  for (int at = first; at < end; at += kChannelGroup) {
    for (int i = 0; i < kChannelGroup; ++i) {
      const int entry = at + i;
      const float* const from =
          entry < length ? &waiting[size_t(entry - first) * d]
                         : rows.k + size_t(rows[entry - length]) * rows.stride;
      std::copy(from, from + d, group.begin() + i * d);
    }
    StoreGroupOf(format, at, kChannelGroup, group.data(), head.pages.data());
  }
  head.coded = std::max(head.coded, end);
}

// Keys kept[i] from the first group on in which something moves.
std::vector<float> KvCache::MovedKeys(const Head& head,
                                      std::span<const int> kept) const {
  if (!shape_.format.channel) return {};
  const size_t d = shape_.format.head_dim;
  const int n = static_cast<int>(kept.size());
  int first = 0;
  while (first < n && kept[first] == first) ++first;
  if (first == n) return {};
  first = FirstWaiting(shape_.format, first);
  std::vector<float> keys(size_t(n - first) * d);
  for (int i = first; i < n; ++i) {
    LoadOne(head, kept[i], &keys[size_t(i - first) * d], nullptr);
  }
  return keys;
}

// keys: MovedKeys of the `count` entries that are left.
void KvCache::CodeMovedKeys(Head& head, int count,
                            const std::vector<float>& keys) {
  if (keys.empty()) return;
  const size_t d = shape_.format.head_dim;
  const int moved = static_cast<int>(keys.size() / d);
  for (int at = 0; at < moved; at += kChannelGroup) {
    StoreGroupOf(shape_.format, count - moved + at,
                 std::min(kChannelGroup, moved - at), &keys[at * d],
                 head.pages.data());
  }
  head.coded = count;
}

}  // namespace pyramidkv
