// The fine pages of a KvCache (cache/fine_pages.h).

#include <algorithm>

#include "cache/kv_cache_head.h"

namespace pyramidkv {

int KvCache::FineEntries(const Head& head) const {
  return HasFinePages(shape_.format) ? head.LowerBound(kFinePositions) : 0;
}

bool KvCache::LoadFine(int layer, int h, int i, float* k, float* v) const {
  return LoadFine(head(layer, h), i, k, v);
}

bool KvCache::LoadFine(const Head& head, int i, float* k, float* v) const {
  const PageFormat fine = FineFormat(shape_.format);
  if (i < FineEntries(head)) {
    LoadEntry(fine, head.fine, i, k, v);
  } else if (i >= RecentFrom(head)) {
    const int slot = i - head.recent_begin;
    LoadEntry(fine, head.recent[slot / kFinePositions], slot % kFinePositions,
              k, v);
  } else if (const int slot = head.TopSlot(i); slot >= 0) {
    const PageFormat format = TopFormat(shape_.format, *shape_.top);
    LoadEntry(format, head.top_pages[slot / kFinePositions],
              slot % kFinePositions, k, v, head.top_rounding(format).keys);
  } else {
    return false;
  }
  return true;
}

// k, v: either may be null.
void KvCache::LoadOne(const Head& head, int i, float* k, float* v) const {
  if (LoadFine(head, i, k, v)) return;
  LoadEntry(shape_.format, head.pages[i / kPageEntries], i % kPageEntries, k, v,
            head.key_rounding_or_null());
}

// REQUIRES: the head's position of entry i is there.
void KvCache::StoreOne(Head& head, int i, const float* k, const float* v) {
  StoreEntry(shape_.format, head.pages[i / kPageEntries], i % kPageEntries, k,
             v, head.rounding());
  const PageFormat fine = FineFormat(shape_.format);
  if (HasFinePages(shape_.format) && head.position(i) < kFinePositions) {
    StoreEntry(fine, head.fine, i, k, v);
  }
  if (!head.recent.empty() && i >= head.recent_begin) {
    const int slot = i - head.recent_begin;
    StoreEntry(fine, head.recent[slot / kFinePositions], slot % kFinePositions,
               k, v);
  }
}

// The first entry that the next token reads from the recent pages.
int KvCache::RecentFrom(const Head& head) const {
  if (head.recent.empty()) return head.length;
  return std::max(
      head.recent_begin,
      std::min(head.LowerBound(head.seen - FineRecent(shape_.format)),
               FirstWaiting(shape_.format, head.length)));
}

// Room for those of the rows that are recent then. Called before `length`
// grows.
Status KvCache::MakeRecent(Head& head, int position, const Rows& rows,
                           int seen) {
  const int recent = FineRecent(shape_.format);
  if (recent == 0) return {};
  const size_t bytes = FinePageBytes(shape_.format);
  const int oldest = position + seen - recent - kFineSlack;
  int first = 0;  // row that is recent
  while (first < rows.count && position + rows[first] < oldest) ++first;
  if (shape_.format.channel) {
    const int grown = std::max(head.length + rows.count - kFineSlack, 0);
    first = std::min(
        first, std::max(FirstWaiting(shape_.format, grown) - head.length, 0));
  }
  if (first > 0 || head.recent.empty()) {  // nothing older is
    for (std::byte* page : head.recent) pool_->Release(page);
    head.recent.clear();
    head.recent_begin = head.length + first;
  }
  const int used = std::max(head.length - head.recent_begin, 0);
  if (used % kFinePositions != 0) {
    PKV_RETURN_IF_ERROR(MakeOwn(bytes, &head.recent.back()));
  }
  const size_t pages =
      FinePagesFor(head.length + rows.count - head.recent_begin);
  while (head.recent.size() < pages) {
    std::byte* const page = pool_->Allocate(bytes);
    if (page == nullptr) return OutOfMemory();
    head.recent.push_back(page);
  }
  return {};
}

// As MoveFine, for the recent pages.
void KvCache::MoveRecent(Head& head, std::span<const int> kept) {
  const PageFormat format = FineFormat(shape_.format);
  const auto page = [&](int slot) {
    return head.recent[slot / kFinePositions];
  };
  const int begin = static_cast<int>(
      std::lower_bound(kept.begin(), kept.end(), head.recent_begin) -
      kept.begin());
  for (int i = begin; i < static_cast<int>(kept.size()); ++i) {
    const int from = kept[i] - head.recent_begin, to = i - begin;
    if (from == to) continue;
    CopyEntry(format, page(to), to % kFinePositions, page(from),
              from % kFinePositions);
  }
  head.recent_begin = begin;
}

// Gives back the recent pages that nobody reads any more.
void KvCache::TrimRecent(Head& head) {
  if (head.length <= head.recent_begin || head.length == 0) {
    for (std::byte* page : head.recent) pool_->Release(page);
    head.recent.clear();
  }
  if (head.recent.empty()) {
    head.recent_begin = head.length;
    return;
  }
  const size_t pages = FinePagesFor(head.length - head.recent_begin);
  while (head.recent.size() > pages) {
    pool_->Release(head.recent.back());
    head.recent.pop_back();
  }
  int oldest =
      head.LowerBound(head.seen - FineRecent(shape_.format) - kFineSlack);
  if (shape_.format.channel) {
    const int shorter = std::max(head.length - kFineSlack, 0);
    oldest = std::min(oldest, FirstWaiting(shape_.format, shorter));
  }
  const int aged = std::max(0, oldest - head.recent_begin) / kFinePositions;
  for (int p = 0; p < aged; ++p) pool_->Release(head.recent[p]);
  head.recent.erase(head.recent.begin(), head.recent.begin() + aged);
  head.recent_begin += aged * kFinePositions;
}

// Fine pages of our own, those that there are.
Status KvCache::MakeFineOwn(Head& head) {
  const size_t bytes = FinePageBytes(shape_.format);
  if (head.fine != nullptr) PKV_RETURN_IF_ERROR(MakeOwn(bytes, &head.fine));
  for (std::byte*& page : head.recent) {
    PKV_RETURN_IF_ERROR(MakeOwn(bytes, &page));
  }
  for (std::byte*& page : head.top_pages) {
    PKV_RETURN_IF_ERROR(MakeOwn(TopPageBytes(), &page));
  }
  return {};
}

// A page for the first entries.
Status KvCache::MakeFine(Head& head) {
  const size_t bytes = FinePageBytes(shape_.format);
  if (head.fine != nullptr) return MakeOwn(bytes, &head.fine);
  head.fine = pool_->Allocate(bytes);
  return head.fine != nullptr ? Status() : OutOfMemory();
}

// Entry kept[i] moves to i. REQUIRES: the fine page is our own.
void KvCache::MoveFine(Head& head, std::span<const int> kept) {
  const PageFormat format = FineFormat(shape_.format);
  const int fine = FineEntries(head);
  for (int i = 0; i < static_cast<int>(kept.size()) && kept[i] < fine; ++i) {
    if (kept[i] != i) CopyEntry(format, head.fine, i, head.fine, kept[i]);
  }
}

void KvCache::DropFine(Head& head) {
  if (head.fine == nullptr || FineEntries(head) > 0) return;
  pool_->Release(head.fine);
  head.fine = nullptr;
}

}  // namespace pyramidkv
