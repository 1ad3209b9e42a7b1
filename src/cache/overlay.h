// Entries of a head that are held a second time, in a finer format, and are
// read there: a run of pages, and which entry each slot is of. Which entries
// they are says a rule of KvHead: those at the first positions, the newest ones
// (whole groups where keys are by channel), or those of a list.
//
// A method that returns false found no memory, and has changed nothing.

#ifndef PYRAMIDKV_CACHE_OVERLAY_H_
#define PYRAMIDKV_CACHE_OVERLAY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/page_run.h"
#include "kernels/segment.h"

namespace pyramidkv {

// Consecutive entries [first(), end()): entry i is in slot i - first().
class RangeOverlay {
 public:
  RangeOverlay(PagePool* pool, const PageFormat& format) : run_(pool, format) {}

  bool empty() const { return run_.size() == 0; }
  // Below 0: the first slots are of entries that left.
  int first() const { return first_; }
  int end() const { return first_ + run_.size(); }
  const PageRun& run() const { return run_; }
  PageRun* mutable_run() { return &run_; }

  // Holds nothing; `first` can be appended.
  void Restart(int first);
  bool Reserve(int end) { return run_.Reserve(end - first_); }
  // Entry end(). REQUIRES: room for it.
  void Append(const float* k, const float* v);
  void AppendCopy(const RangeOverlay& from, int entry);
  // If it is held; its page is our own.
  void Store(int entry, const float* k, const float* v);

  // Entry kept[i] of the head becomes entry i. REQUIRES: pages of our own.
  void Keep(std::span<const int> kept);
  // The first entries of the head leave.
  void DropFront(int entries);
  // Gives back whole pages of entries before this one.
  void ReleaseBefore(int entry);

  // The seen ones of entries [from, to).
  Segment Part(int from, int to) const;

 private:
  PageRun run_;
  int first_ = 0;
};

// Listed entries: entries()[i] is in slot i. They are marked in a bit mask over
// the pages of the head, where they are not to be read.
class ListOverlay {
 public:
  ListOverlay(PagePool* pool, const PageFormat& format) : run_(pool, format) {}

  std::span<const int32_t> entries() const { return entries_; }
  int origin() const { return origin_; }
  const PageRun& run() const { return run_; }
  PageRun* mutable_run() { return &run_; }
  // By page of the head, a bit for each listed entry; no word: none.
  std::span<const uint64_t> marks() const { return marks_; }
  size_t side_bytes() const;  // of capacities

  // Holds these entries (ascending) and no others. k, v: their rows [entries,
  // head_dim]; of those that are held already, the bits stay.
  bool Set(std::span<const int> entries, const float* k, const float* v,
           const Rounding& rounding);
  // Takes a state; its slots have to be added to the run.
  void Restore(std::vector<int32_t> entries, int origin);
  // Holds `entry`, after all others, as `from` holds entry `old`, if it does.
  // Trim is called once that is done.
  bool AppendCopy(const ListOverlay& from, int old, int entry);
  // As in RangeOverlay.
  void Store(int entry, const float* k, const float* v,
             const Rounding& rounding);
  void Keep(std::span<const int> kept);
  void DropFront(int entries);
  void Trim();
  // Slots count from where they did before any left (origin).
  Segment Part(int from, int to) const;

 private:
  int SlotOf(int entry) const;  // or -1

  PageRun run_;
  std::vector<int32_t> entries_;  // below 0: slots of entries that left
  std::vector<uint64_t> marks_;
  int origin_ = 0;  // slots that left in front
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_OVERLAY_H_
