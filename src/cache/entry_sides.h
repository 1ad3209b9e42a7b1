// The data of a KV head's entries beside K and V: positions, and whichever
// of bias, score and rotation the head has. The arrays move with the entries.

#ifndef PYRAMIDKV_CACHE_ENTRY_SIDES_H_
#define PYRAMIDKV_CACHE_ENTRY_SIDES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// Side arrays grow by whole pages: doubling would make `bytes` a lie.
inline size_t SideCapacity(size_t entries) {
  return (entries + kPageEntries - 1) / kPageEntries * kPageEntries;
}

template <typename T>
void ReserveSide(size_t entries, std::vector<T>* side) {
  if (side->capacity() < entries) side->reserve(SideCapacity(entries));
}

// Gives back what the entries do not need.
template <typename T>
void TrimSide(std::vector<T>* side) {
  if (side->capacity() > SideCapacity(side->size())) side->shrink_to_fit();
}

// The first of `length` entries at or after a position. positions: [length], or
// null: base + i.
inline int FirstEntryAt(const int32_t* positions, int32_t base, int length,
                        int at) {
  if (positions == nullptr) return std::clamp(at - base, 0, length);
  return static_cast<int>(std::lower_bound(positions, positions + length, at) -
                          positions);
}

struct EntrySides {
  int32_t length = 0;
  int32_t base = 0;                 // position of entry 0 where there are none:
  std::vector<int32_t> positions;   // [length] ascending, or empty: base + i
  std::vector<float> bias, scores;  // [length], or empty
  std::vector<int32_t> rope;        // [length], or empty: as position

  int32_t position(int i) const {
    return positions.empty() ? base + i : positions[i];
  }
  int32_t rotated_for(int i) const {
    return rope.empty() ? position(i) : rope[i];
  }
  // The first entry at or after a position.
  int LowerBound(int at) const {
    return FirstEntryAt(positions.empty() ? nullptr : positions.data(), base,
                        length, at);
  }

  // Entries at positions first + rows(i) for i in [0, count), ascending, that
  // are rotated for rope_shift less. rows: [count]; null: i.
  void Append(int first, const int* rows, int count, int rope_shift);
  // Entry kept[i] becomes entry i. kept: ascending.
  void Keep(std::span<const int> kept);
  // The first entries leave.
  void DropFront(int entries);
  // The arrays' capacities.
  size_t bytes() const;
  // Gives positions back if they are consecutive.
  void TrimPositions();

 private:
  // Calls f with every array that there is, but for positions.
  template <class F>
  void ForArrays(const F& f) {
    if (!bias.empty()) f(&bias);
    if (!scores.empty()) f(&scores);
    if (!rope.empty()) f(&rope);
  }
  void AppendPositions(int first, const int* rows, int count);
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_ENTRY_SIDES_H_
