// Which blocks of a head are in memory, and which of them leave first.
//
// Source: InfiniGen (arXiv 2406.19707), section 4.4 (fifo, lru and counter).
// Departures: an evicted block is forgotten, so that it cannot be evicted
// twice, and begins anew when it comes back; all blocks are candidates, not the
// older half alone.
//
// The pages belong to the caller. No errors. Thread-compatible.

#ifndef PYRAMIDKV_CACHE_COLD_RESIDENTS_H_
#define PYRAMIDKV_CACHE_COLD_RESIDENTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/cold_tier.h"

namespace pyramidkv {

class ColdResidents {
 public:
  explicit ColdResidents(Victim victim) : victim_(victim) {}

  // Adds a block as the newest one. REQUIRES: it is not in memory.
  void Add(int block, std::byte* page);
  // A block's page, or null if it is not in memory.
  std::byte* page(int block) const;

  // A step selects `blocks`: those in memory count as used, the others are
  // appended to `missing`.
  void Use(std::span<const int32_t> blocks, std::vector<int32_t>* missing);
  // Adds a block that the last step selected and that was missing.
  void AddUsed(int block, std::byte* page);

  // Removes `count` blocks and appends their pages to `pages`; none of those
  // that the last `spared` steps selected.
  // REQUIRES: so many can be removed.
  void Evict(int count, int spared, std::vector<std::byte*>* pages);

  // The same for at most `count` of those that step `since` or a later one
  // selected: the last that came first. Where more passes through than memory
  // holds, these are what is needed again last.
  void EvictPassed(int count, uint32_t since, int spared,
                   std::vector<std::byte*>* pages);
  // The next Use's.
  uint32_t next_step() const { return step_ + 1; }

  // Removes all.
  void Clear(std::vector<std::byte*>* pages);

  std::vector<std::byte*> pages() const;  // of all, in no order

  int size() const { return static_cast<int>(items_.size()); }
  int64_t bytes() const;

 private:
  struct Item {
    std::byte* page = nullptr;
    int32_t block = 0;
    uint32_t added = 0;    // ascending
    uint32_t used_at = 0;  // step, or that of Add
    uint8_t uses = 0;
  };

  uint64_t Rank(const Item& item) const;
  // Removes `count` of the first `candidates` items, those before others by
  // `before`.
  template <class Before>
  void Remove(int count, int64_t candidates, const Before& before,
              std::vector<std::byte*>* pages);
  void CountUse(Item* item);

  Victim victim_;
  uint32_t step_ = 1;
  uint32_t added_ = 0;
  std::vector<Item> items_;     // in no order
  std::vector<int32_t> where_;  // by block: index into items_, or -1
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_RESIDENTS_H_
