#include "cache/entry_sides.h"

#include <numeric>
#include <utility>

namespace pyramidkv {
namespace {

int RowAt(const int* rows, int i) { return rows != nullptr ? rows[i] : i; }

}  // namespace

void EntrySides::Append(int first, const int* rows, int count, int rope_shift) {
  const size_t grown = size_t(length) + count;
  if (rope.empty() && rope_shift != 0) {
    rope.resize(length);
    for (int i = 0; i < length; ++i) rope[i] = position(i);
  }
  ForArrays([&](auto* side) {
    ReserveSide(grown, side);
    side->resize(grown);
  });
  if (rope_shift != 0 && rope.empty()) rope.resize(grown);
  for (int i = 0; !rope.empty() && i < count; ++i) {
    rope[length + i] = first + RowAt(rows, i) - rope_shift;
  }
  AppendPositions(first, rows, count);
  length += count;
}

void EntrySides::AppendPositions(int first, const int* rows, int count) {
  const int row = RowAt(rows, 0);
  if (length == 0) base = first + row;
  const bool consecutive = positions.empty() && first + row == base + length &&
                           RowAt(rows, count - 1) - row == count - 1;
  if (consecutive) return;
  ReserveSide(size_t(length) + count, &positions);
  if (positions.empty()) {
    positions.resize(length);
    std::iota(positions.begin(), positions.end(), base);
  }
  for (int i = 0; i < count; ++i) positions.push_back(first + RowAt(rows, i));
}

void EntrySides::Keep(std::span<const int> kept) {
  std::vector<int32_t> left(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) left[i] = position(kept[i]);
  positions = std::move(left);
  ForArrays([&](auto* side) {
    for (size_t i = 0; i < kept.size(); ++i) (*side)[i] = (*side)[kept[i]];
    side->resize(kept.size());
    TrimSide(side);
  });
  length = static_cast<int32_t>(kept.size());
  TrimPositions();
}

void EntrySides::DropFront(int entries) {
  if (positions.empty()) {
    base += entries;
  } else {
    positions.erase(positions.begin(), positions.begin() + entries);
  }
  ForArrays([&](auto* side) {
    side->erase(side->begin(), side->begin() + entries);
    TrimSide(side);
  });
  length -= entries;
  TrimPositions();
}

size_t EntrySides::bytes() const {
  return (positions.capacity() + rope.capacity()) * sizeof(int32_t) +
         (bias.capacity() + scores.capacity()) * sizeof(float);
}

void EntrySides::TrimPositions() {
  if (!positions.empty() &&
      positions.back() - positions.front() == length - 1) {
    base = positions.front();
    positions.clear();
  }
  TrimSide(&positions);
}

}  // namespace pyramidkv
