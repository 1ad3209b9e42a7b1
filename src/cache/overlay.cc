#include "cache/overlay.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pyramidkv {

void RangeOverlay::Restart(int first) {
  run_.Shrink(0);
  first_ = first;
}

void RangeOverlay::Append(const float* k, const float* v) {
  run_.Add(1);
  run_.Store(run_.size() - 1, k, v);
}

void RangeOverlay::AppendCopy(const RangeOverlay& from, int entry) {
  run_.Add(1);
  run_.Copy(run_.size() - 1, from.run_, entry - from.first_);
}

void RangeOverlay::Store(int entry, const float* k, const float* v) {
  if (entry >= first_ && entry < end()) run_.Store(entry - first_, k, v);
}

void RangeOverlay::Keep(std::span<const int> kept) {
  const auto begin = std::lower_bound(kept.begin(), kept.end(), first_);
  const auto behind = std::lower_bound(begin, kept.end(), end());
  std::vector<int> slots(begin, behind);
  for (int& slot : slots) slot -= first_;
  [[maybe_unused]] const bool moved = run_.Keep(slots);
  DCHECK(moved);
  first_ = static_cast<int>(begin - kept.begin());
}

void RangeOverlay::DropFront(int entries) {
  first_ -= entries;
  if (end() <= 0) Restart(0);
}

void RangeOverlay::ReleaseBefore(int entry) {
  const int entries = run_.format().entries;
  const int pages = std::max(0, entry - first_) / entries;
  run_.DropFront(pages);
  first_ += pages * entries;
}

Segment RangeOverlay::Part(int from, int to) const {
  Segment part;
  part.format = run_.format();
  part.pages = run_.pages().data();
  part.begin = from - first_;
  part.end = std::min(to, end()) - first_;
  part.first_entry = first_;
  return part;
}

size_t ListOverlay::side_bytes() const {
  return entries_.capacity() * sizeof(int32_t) +
         marks_.capacity() * sizeof(uint64_t);
}

int ListOverlay::SlotOf(int entry) const {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), entry);
  return at != entries_.end() && *at == entry
             ? static_cast<int>(at - entries_.begin())
             : -1;
}

bool ListOverlay::Set(std::span<const int> entries, const float* k,
                      const float* v, const Rounding& rounding) {
  const int n = static_cast<int>(entries.size());
  PageRun next = run_.Empty();
  if (!next.Reserve(n)) return false;
  next.Add(n);
  for (int i = 0; i < n; ++i) {
    const size_t row = size_t(i) * run_.format().head_dim;
    if (const int held = SlotOf(entries[i]); held >= 0) {
      next.Copy(i, run_, held);
    } else {
      next.Store(i, k + row, v + row, rounding);
    }
  }
  run_ = std::move(next);
  entries_.assign(entries.begin(), entries.end());
  origin_ = 0;
  Trim();
  return true;
}

void ListOverlay::Restore(std::vector<int32_t> entries, int origin) {
  entries_ = std::move(entries);
  origin_ = origin;
  Trim();
}

bool ListOverlay::AppendCopy(const ListOverlay& from, int old, int entry) {
  const int held = from.SlotOf(old);
  if (held < 0) return true;
  const int slot = run_.size();
  if (!run_.Reserve(slot + 1)) return false;
  run_.Add(1);
  run_.Copy(slot, from.run_, held);
  entries_.push_back(entry);
  return true;
}

void ListOverlay::Store(int entry, const float* k, const float* v,
                        const Rounding& rounding) {
  if (const int slot = SlotOf(entry); slot >= 0) {
    run_.Store(slot, k, v, rounding);
  }
}

void ListOverlay::Keep(std::span<const int> kept) {
  std::vector<int> slots;
  std::vector<int32_t> left;
  size_t from = 0;
  for (size_t i = 0; i < kept.size() && from < entries_.size(); ++i) {
    while (from < entries_.size() && entries_[from] < kept[i]) ++from;
    if (from == entries_.size() || entries_[from] != kept[i]) continue;
    slots.push_back(static_cast<int>(from));
    left.push_back(static_cast<int32_t>(i));
  }
  [[maybe_unused]] const bool moved = run_.Keep(slots);
  DCHECK(moved);
  entries_ = std::move(left);
  Trim();
}

// Slots go by whole pages; until then their entries are below 0.
void ListOverlay::DropFront(int entries) {
  for (int32_t& i : entries_) i -= entries;
  if (!entries_.empty() && entries_.back() < 0) {
    entries_.clear();
    run_.Shrink(0);
  }
  const size_t page = run_.format().entries;
  size_t gone = 0;
  while (gone + page < entries_.size() && entries_[gone + page - 1] < 0) {
    gone += page;
  }
  run_.DropFront(static_cast<int>(gone / page));
  entries_.erase(entries_.begin(), entries_.begin() + gone);
  origin_ += static_cast<int32_t>(gone);
  Trim();
}

// Gives back what the arrays do not need, and marks the entries anew.
void ListOverlay::Trim() {
  entries_.shrink_to_fit();
  marks_.clear();
  if (!entries_.empty()) marks_.resize(entries_.back() / kPageEntries + 1);
  marks_.shrink_to_fit();
  for (int32_t i : entries_) {
    if (i >= 0) marks_[i / kPageEntries] |= uint64_t{1} << i % kPageEntries;
  }
}

Segment ListOverlay::Part(int from, int to) const {
  const auto slot = [this](int entry) {
    return static_cast<int>(
        std::lower_bound(entries_.begin(), entries_.end(), entry) -
        entries_.begin());
  };
  Segment part;
  part.format = run_.format();
  part.pages = run_.pages().data();
  part.begin = slot(from);
  part.end = slot(to);
  part.origin = origin_;
  part.entries = entries_.data();
  return part;
}

}  // namespace pyramidkv
