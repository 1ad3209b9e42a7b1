// What KvCache holds of one (layer, KV head), for the files that implement it.

#ifndef PYRAMIDKV_CACHE_KV_CACHE_HEAD_H_
#define PYRAMIDKV_CACHE_KV_CACHE_HEAD_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/kv_cache_io.h"

namespace pyramidkv {

// Side arrays grow by whole pages: doubling would make `bytes` a lie.
inline size_t SideCapacity(size_t entries) {
  return (entries + kPageEntries - 1) / kPageEntries * kPageEntries;
}

template <typename T>
void Reserve(size_t entries, std::vector<T>* side) {
  if (side->capacity() < entries) side->reserve(SideCapacity(entries));
}

// Gives back what the entries do not need.
template <typename T>
void Trim(std::vector<T>* side) {
  if (side->capacity() > SideCapacity(side->size())) side->shrink_to_fit();
}

struct KvCache::Rows {
  const int* rows;  // null: all from 0
  int count;
  const float* k;
  const float* v;
  size_t stride;
  int operator[](int i) const { return rows != nullptr ? rows[i] : i; }
};

// Entry i is in slot i % kPageEntries of page i / kPageEntries.
struct KvCache::Head : HeadState {
  std::vector<std::byte*> pages;
  std::byte* fine = nullptr;
  std::vector<std::byte*> recent;     // from entry recent_begin on
  std::vector<std::byte*> top_pages;  // entry top[i] in slot i of these
  std::vector<uint64_t> top_marks;    // by page, a bit for each slot

  int32_t position(int i) const {
    return positions.empty() ? base + i : positions[i];
  }

  const float* key_rounding_or_null() const {
    return key_rounding.empty() ? nullptr : key_rounding.data();
  }
  Rounding rounding() const {
    return {key_rounding_or_null(), tensor_scales[0], tensor_scales[1]};
  }

  void Evicted(int32_t from, int32_t before) {
    evicted_from = std::min(evicted_from, from);
    evicted_before = std::max(evicted_before, before);
  }

  // Its slot in the top pages, or -1.
  int TopSlot(int i) const {
    const auto at = std::lower_bound(top.begin(), top.end(), i);
    return at != top.end() && *at == i ? static_cast<int>(at - top.begin())
                                       : -1;
  }
  void MarkTop();
  // Keys in top pages of a format are rounded as others where they have codes.
  Rounding top_rounding(const PageFormat& format) const {
    return IsQuantized(format.k) ? rounding() : Rounding{};
  }

  int32_t rotated_for(int i) const {
    return rope.empty() ? position(i) : rope[i];
  }

  void AppendPositions(int first, const Rows& rows);
  void AppendSides(int first, const Rows& rows, int rope_shift);
  void KeepPositions(std::span<const int> kept);
  void TrimPositions();
  size_t side_bytes() const;

  // Calls f with every side array that the head has.
  template <class F>
  void ForSides(const F& f) {
    if (!bias.empty()) f(&bias);
    if (!scores.empty()) f(&scores);
    if (!rope.empty()) f(&rope);
  }
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_CACHE_HEAD_H_
