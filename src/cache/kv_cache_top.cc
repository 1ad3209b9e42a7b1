// The top pages of a KvCache (cache/top_pages.h).

#include <algorithm>

#include "base/check.h"
#include "cache/kv_cache_head.h"

namespace pyramidkv {

size_t KvCache::TopPageBytes() const {
  return shape_.top ? TopFormat(shape_.format, *shape_.top).page_bytes() : 0;
}

void KvCache::Head::MarkTop() {
  top_marks.clear();
  if (top.empty()) {
    top_marks.shrink_to_fit();
    return;
  }
  top_marks.resize(top.back() / kPageEntries + 1);
  top_marks.shrink_to_fit();
  for (int32_t i : top) {
    if (i < 0) continue;
    top_marks[i / kPageEntries] |= uint64_t{1} << i % kPageEntries;
  }
}

Status KvCache::SetTop(int layer, int h, std::span<const int> top,
                       const float* k, const float* v) {
  DCHECK(shape_.top.has_value());
  Head& head = this->head(layer, h);
  const PageFormat format = TopFormat(shape_.format, *shape_.top);
  std::vector<std::byte*> pages;
  while (pages.size() < FinePagesFor(top.size())) {
    std::byte* const page = pool_->Allocate(TopPageBytes());
    if (page == nullptr) {
      for (std::byte* made : pages) pool_->Release(made);
      return OutOfMemory();
    }
    pages.push_back(page);
  }
  for (size_t i = 0; i < top.size(); ++i) {
    std::byte* const to = pages[i / kFinePositions];
    const int slot = static_cast<int>(i % kFinePositions);
    const int old = head.TopSlot(top[i]);
    const size_t row = i * shape_.format.head_dim;
    if (old >= 0) {
      CopyEntry(format, to, slot, head.top_pages[old / kFinePositions],
                old % kFinePositions);
    } else {
      StoreEntry(format, to, slot, k + row, v + row, head.top_rounding(format));
    }
  }
  for (std::byte* page : head.top_pages) pool_->Release(page);
  head.top_pages = std::move(pages);
  head.top.assign(top.begin(), top.end());
  head.top_origin = 0;
  TrimTop(head);
  return {};
}

// As MoveFine, for the top pages.
void KvCache::MoveTop(Head& head, std::span<const int> kept) {
  if (head.top.empty()) return;
  const PageFormat format = TopFormat(shape_.format, *shape_.top);
  const auto page = [&](size_t slot) {
    return head.top_pages[slot / kFinePositions];
  };
  std::vector<int32_t> left;
  size_t from = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    while (from < head.top.size() && head.top[from] < kept[i]) ++from;
    if (from == head.top.size()) break;
    if (head.top[from] != kept[i]) continue;
    const size_t to = left.size();
    if (from != to) {
      CopyEntry(format, page(to), to % kFinePositions, page(from),
                from % kFinePositions);
    }
    left.push_back(static_cast<int32_t>(i));
  }
  head.top = std::move(left);
}

// The first `entries` of the head have left. Their slots go by whole pages;
// until then their indices are below 0.
void KvCache::DropTopBefore(Head& head, int entries) {
  for (int32_t& i : head.top) i -= entries;
  size_t gone = 0;
  while (gone + kFinePositions < head.top.size() &&
         head.top[gone + kFinePositions - 1] < 0) {
    pool_->Release(head.top_pages[gone / kFinePositions]);
    gone += kFinePositions;
  }
  head.top_pages.erase(head.top_pages.begin(),
                       head.top_pages.begin() + gone / kFinePositions);
  head.top.erase(head.top.begin(), head.top.begin() + gone);
  head.top_origin += static_cast<int32_t>(gone);
}

// Gives back what entries before `length` do not need.
void KvCache::TrimTop(Head& head) {
  while (!head.top.empty() && head.top.back() >= head.length) {
    head.top.pop_back();
  }
  if (!head.top.empty() && head.top.back() < 0) head.top.clear();
  while (head.top_pages.size() > FinePagesFor(head.top.size())) {
    pool_->Release(head.top_pages.back());
    head.top_pages.pop_back();
  }
  head.top.shrink_to_fit();
  head.MarkTop();
}

}  // namespace pyramidkv
