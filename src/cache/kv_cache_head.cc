#include "cache/kv_cache_head.h"

#include <numeric>
#include <utility>

namespace pyramidkv {

// What appended rows have beside their positions. Called before `length`
// grows.
void KvCache::Head::AppendSides(int first, const Rows& rows, int rope_shift) {
  const size_t grown = size_t(length) + rows.count;
  if (rope.empty() && rope_shift != 0) {
    rope.resize(length);
    for (int i = 0; i < length; ++i) rope[i] = position(i);
  }
  ForSides([&](auto* side) {
    Reserve(grown, side);
    side->resize(grown);
  });
  if (rope_shift != 0 && rope.empty()) rope.resize(grown);
  for (int i = 0; !rope.empty() && i < rows.count; ++i) {
    rope[length + i] = first + rows[i] - rope_shift;
  }
}

size_t KvCache::Head::side_bytes() const {
  return (positions.capacity() + rope.capacity() + top.capacity()) *
             sizeof(int32_t) +
         top_marks.capacity() * sizeof(uint64_t) +
         (bias.capacity() + scores.capacity() + key_rounding.capacity()) *
             sizeof(float);
}

// first: the position of row 0.
void KvCache::Head::AppendPositions(int first, const Rows& rows) {
  const int n = rows.count;
  if (length == 0) base = first + rows[0];
  const bool consecutive = positions.empty() &&
                           first + rows[0] == base + length &&
                           rows[n - 1] - rows[0] == n - 1;
  if (consecutive) return;
  Reserve(static_cast<size_t>(length) + n, &positions);
  if (positions.empty()) {
    positions.resize(length);
    std::iota(positions.begin(), positions.end(), base);
  }
  for (int i = 0; i < n; ++i) positions.push_back(first + rows[i]);
}

void KvCache::Head::KeepPositions(std::span<const int> kept) {
  ForSides([&](auto* side) {
    for (size_t i = 0; i < kept.size(); ++i) (*side)[i] = (*side)[kept[i]];
  });
  std::vector<int32_t> left(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) left[i] = position(kept[i]);
  positions = std::move(left);
}

// Gives back what the array does not need: all of it if the positions that
// are left are consecutive.
void KvCache::Head::TrimPositions() {
  if (!positions.empty() &&
      positions.back() - positions.front() == length - 1) {
    base = positions.front();
    positions.clear();
  }
  Trim(&positions);
}

}  // namespace pyramidkv
