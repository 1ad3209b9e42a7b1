#include "cache/cold_residents.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace pyramidkv {

std::byte* ColdResidents::page(int block) const {
  if (static_cast<size_t>(block) >= where_.size()) return nullptr;
  const int32_t i = where_[block];
  return i < 0 ? nullptr : items_[i].page;
}

void ColdResidents::Add(int block, std::byte* page) {
  DCHECK(page != nullptr && this->page(block) == nullptr);
  if (static_cast<size_t>(block) >= where_.size()) where_.resize(block + 1, -1);
  where_[block] = size();
  // A step before the first: it was not selected in the last one.
  items_.push_back({page, block, added_++, step_ - 1, 0});
}

void ColdResidents::AddUsed(int block, std::byte* page) {
  Add(block, page);
  items_.back().used_at = step_;
  items_.back().uses = 1;
}

void ColdResidents::CountUse(Item* item) {
  if (item->uses == std::numeric_limits<uint8_t>::max()) {
    for (Item& i : items_) i.uses /= 2;
  }
  ++item->uses;
}

void ColdResidents::Use(std::span<const int32_t> blocks,
                        std::vector<int32_t>* missing) {
  ++step_;
  for (const int32_t block : blocks) {
    if (page(block) == nullptr) {
      missing->push_back(block);
      continue;
    }
    Item* const item = &items_[where_[block]];
    item->used_at = step_;
    CountUse(item);
  }
}

// The lowest leaves first; of equals the one that came first.
uint64_t ColdResidents::Rank(const Item& item) const {
  const uint64_t key = victim_ == Victim::kLru       ? item.used_at
                       : victim_ == Victim::kCounter ? item.uses
                                                     : 0;
  return key << 32 | item.added;
}

void ColdResidents::Evict(int count, bool spare_used,
                          std::vector<std::byte*>* pages) {
  if (count <= 0) return;
  // Candidates to the front.
  const auto end =
      spare_used
          ? std::partition(items_.begin(), items_.end(),
                           [&](const Item& i) { return i.used_at != step_; })
          : items_.end();
  DCHECK(count <= end - items_.begin());
  if (count < end - items_.begin()) {
    std::nth_element(
        items_.begin(), items_.begin() + count, end,
        [&](const Item& a, const Item& b) { return Rank(a) < Rank(b); });
  }
  for (int i = 0; i < count; ++i) {
    pages->push_back(items_[i].page);
    where_[items_[i].block] = -1;
  }
  items_.erase(items_.begin(), items_.begin() + count);
  for (int i = 0; i < size(); ++i) where_[items_[i].block] = i;
}

void ColdResidents::Clear(std::vector<std::byte*>* pages) {
  for (const Item& item : items_) pages->push_back(item.page);
  items_ = {};
  where_ = {};
}

int64_t ColdResidents::bytes() const {
  return static_cast<int64_t>(items_.capacity() * sizeof(Item) +
                              where_.capacity() * sizeof(int32_t));
}

}  // namespace pyramidkv
