// Keys by channel in a KvHead: they get their codes when a group of entries is
// complete (kernels/channel_keys.h).

#include <algorithm>
#include <vector>

#include "cache/kv_head.h"

namespace pyramidkv {

// Keys of the group that is not complete, [entries, head_dim], if `count` more
// entries complete it.
std::vector<float> KvHead::WaitingKeys(int count) const {
  const int first = format_.FirstWaiting(length());
  if (!format_.channel || format_.FirstWaiting(length() + count) == first) {
    return {};
  }
  const size_t d = format_.head_dim;
  std::vector<float> keys(size_t(length() - first) * d);
  const HeadSegments segments = Segments();
  for (int i = first; i < length(); ++i) {
    segments.Load(i, &keys[size_t(i - first) * d], nullptr);
  }
  return keys;
}

// Codes for the groups that `rows` have completed, after `length` entries of
// which some waited.
void KvHead::CodeRows(int length, const std::vector<float>& waiting,
                      const EntryRows& rows) {
  const size_t d = format_.head_dim;
  const int first = format_.FirstWaiting(length);
  const int end = format_.FirstWaiting(this->length());
  if (!format_.channel || first == end) return;
  std::vector<float> group(kChannelGroup * d);
  for (int at = first; at < end; at += kChannelGroup) {
    for (int i = 0; i < kChannelGroup; ++i) {
      const int entry = at + i;
      const float* const from =
          entry < length ? &waiting[size_t(entry - first) * d]
                         : rows.k + size_t(rows[entry - length]) * rows.stride;
      std::copy(from, from + d, group.begin() + i * d);
    }
    base_.StoreKeys(at, kChannelGroup, group.data());
  }
  coded_ = std::max(coded_, end);
}

// Keys kept[i] from the first group on in which something moves.
std::vector<float> KvHead::MovedKeys(std::span<const int> kept) const {
  const int n = static_cast<int>(kept.size());
  int first = 0;
  while (first < n && kept[first] == first) ++first;
  if (!format_.channel || first == n) return {};
  first = format_.FirstWaiting(first);
  const size_t d = format_.head_dim;
  std::vector<float> keys(size_t(n - first) * d);
  const HeadSegments segments = Segments();
  for (int i = first; i < n; ++i) {
    segments.Load(kept[i], &keys[size_t(i - first) * d], nullptr);
  }
  return keys;
}

// keys: [n, head_dim] of the last entries, from the first of a group on.
void KvHead::CodeLast(const std::vector<float>& keys) {
  if (keys.empty()) return;
  const size_t d = format_.head_dim;
  const int n = static_cast<int>(keys.size() / d);
  for (int at = 0; at < n; at += kChannelGroup) {
    base_.StoreKeys(length() - n + at, std::min(kChannelGroup, n - at),
                    &keys[at * d]);
  }
  coded_ = length();
}

}  // namespace pyramidkv
