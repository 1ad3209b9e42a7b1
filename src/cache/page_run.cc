#include "cache/page_run.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/channel_keys.h"

namespace pyramidkv {

PageRun::PageRun(PagePool* pool, const PageFormat& format)
    : pool_(pool), format_(format) {}

PageRun::PageRun(const PageRun& other)
    : pool_(other.pool_),
      format_(other.format_),
      size_(other.size_),
      pages_(other.pages_) {
  for (std::byte* page : pages_) pool_->AddReference(page);
}

PageRun::PageRun(PageRun&& other) noexcept
    : pool_(other.pool_),
      format_(other.format_),
      size_(std::exchange(other.size_, 0)),
      pages_(std::exchange(other.pages_, {})) {}

PageRun& PageRun::operator=(PageRun other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(format_, other.format_);
  std::swap(size_, other.size_);
  std::swap(pages_, other.pages_);
  return *this;
}

PageRun::~PageRun() { Shrink(0); }

bool PageRun::MakeOwn(std::byte** page) {
  if (pool_->Unique(*page)) return true;
  std::byte* const copy = pool_->Allocate(page_bytes());
  if (copy == nullptr) return false;
  std::memcpy(copy, *page, page_bytes());
  pool_->Release(*page);
  *page = copy;
  return true;
}

bool PageRun::MakeOwn() {
  return std::all_of(pages_.begin(), pages_.end(),
                     [this](std::byte*& page) { return MakeOwn(&page); });
}

bool PageRun::Reserve(int size) {
  if (size > size_ && size_ % format_.entries != 0 &&
      !MakeOwn(&pages_.back())) {
    return false;
  }
  while (static_cast<int>(pages_.size()) < PagesFor(size)) {
    std::byte* const page = pool_->Allocate(page_bytes());
    if (page == nullptr) {
      Shrink(size_);
      return false;
    }
    pages_.push_back(page);
  }
  return true;
}

void PageRun::Add(int slots) {
  size_ += slots;
  DCHECK(PagesFor(size_) <= static_cast<int>(pages_.size()));
}

void PageRun::Shrink(int size) {
  DCHECK(size <= size_);
  while (static_cast<int>(pages_.size()) > PagesFor(size)) {
    pool_->Release(pages_.back());
    pages_.pop_back();
  }
  size_ = size;
}

// Where the slots of each page go: null where nothing in it moves, the page
// itself, or a copy of one that others share.
bool PageRun::MakeTargets(std::span<const int> kept,
                          std::vector<std::byte*>* targets) {
  const int n = static_cast<int>(kept.size());
  for (int p = 0; p < PagesFor(n); ++p) {
    const int last = std::min(n, (p + 1) * format_.entries) - 1;
    std::byte* target = nullptr;
    if (kept[last] != last) {  // else no slot before it moves
      target = pages_[p];
      if (!pool_->Unique(target)) target = pool_->Allocate(page_bytes());
      if (target == nullptr) {
        for (int q = 0; q < p; ++q) {
          std::byte* const made = (*targets)[q];
          if (made != nullptr && made != pages_[q]) pool_->Release(made);
        }
        return false;
      }
      if (target != pages_[p]) std::memcpy(target, pages_[p], page_bytes());
    }
    targets->push_back(target);
  }
  return true;
}

// Since kept[i] >= i, going upwards never overwrites what is still to be moved.
bool PageRun::Keep(std::span<const int> kept) {
  const int n = static_cast<int>(kept.size());
  std::vector<std::byte*> targets;
  if (!MakeTargets(kept, &targets)) return false;
  for (size_t p = 0; p < targets.size(); ++p) {
    std::byte* const target = targets[p];
    if (target == nullptr) continue;
    const int first = static_cast<int>(p) * format_.entries;
    for (int i = first; i < std::min(n, first + format_.entries); ++i) {
      if (kept[i] == i) continue;
      CopyEntry(format_, target, i - first, page(kept[i]),
                kept[i] % format_.entries);
    }
    if (target == pages_[p]) continue;
    // Later slots are read from pages that come after this one.
    pool_->Release(pages_[p]);
    pages_[p] = target;
  }
  Shrink(n);
  return true;
}

void PageRun::DropFront(int pages) {
  for (int p = 0; p < pages; ++p) pool_->Release(pages_[p]);
  pages_.erase(pages_.begin(), pages_.begin() + pages);
  size_ = std::max(size_ - pages * format_.entries, 0);
}

void PageRun::Store(int slot, const float* k, const float* v,
                    const Rounding& rounding) {
  StoreEntry(format_, page(slot), slot % format_.entries, k, v, rounding);
}

void PageRun::Copy(int slot, const PageRun& from, int from_slot) {
  CopyEntry(format_, page(slot), slot % format_.entries, from.page(from_slot),
            from_slot % format_.entries);
}

void PageRun::StoreKeys(int first, int count, const float* k) {
  DCHECK(first % kChannelGroup == 0);
  StoreKeyGroup(format_, first % format_.entries / kChannelGroup, count, k,
                page(first));
}

}  // namespace pyramidkv
