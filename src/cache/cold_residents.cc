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

template <class Before>
void ColdResidents::Remove(int count, int64_t candidates, const Before& before,
                           std::vector<std::byte*>* pages) {
  DCHECK(count <= candidates);
  if (count < candidates) {
    std::nth_element(items_.begin(), items_.begin() + count,
                     items_.begin() + candidates, before);
  }
  for (int i = 0; i < count; ++i) {
    pages->push_back(items_[i].page);
    where_[items_[i].block] = -1;
  }
  items_.erase(items_.begin(), items_.begin() + count);
  for (int i = 0; i < size(); ++i) where_[items_[i].block] = i;
}

void ColdResidents::Evict(int count, int spared,
                          std::vector<std::byte*>* pages) {
  if (count <= 0) return;
  const int64_t newest = int64_t{step_} - spared;
  const auto end = std::partition(
      items_.begin(), items_.end(),
      [&](const Item& item) { return int64_t{item.used_at} <= newest; });
  Remove(
      count, end - items_.begin(),
      [this](const Item& a, const Item& b) { return Rank(a) < Rank(b); },
      pages);
}

void ColdResidents::EvictPassed(int count, uint32_t since, int spared,
                                std::vector<std::byte*>* pages) {
  if (count <= 0) return;
  const int64_t newest = int64_t{step_} - spared;
  const auto end =
      std::partition(items_.begin(), items_.end(), [&](const Item& item) {
        return item.used_at >= since && int64_t{item.used_at} <= newest;
      });
  const auto candidates = static_cast<int>(end - items_.begin());
  Remove(
      std::min(count, candidates), candidates,
      [](const Item& a, const Item& b) { return a.added > b.added; }, pages);
}

void ColdResidents::Clear(std::vector<std::byte*>* pages) {
  for (const Item& item : items_) pages->push_back(item.page);
  items_ = {};
  where_ = {};
}

std::vector<std::byte*> ColdResidents::pages() const {
  std::vector<std::byte*> pages;
  for (const Item& item : items_) pages.push_back(item.page);
  return pages;
}

int64_t ColdResidents::bytes() const {
  return static_cast<int64_t>(items_.capacity() * sizeof(Item) +
                              where_.capacity() * sizeof(int32_t));
}

}  // namespace pyramidkv
