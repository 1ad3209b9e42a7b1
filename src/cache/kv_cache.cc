#include "cache/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"
#include "cache/kv_cache_head.h"
#include "kernels/key_rounding.h"
#include "kernels/kv_quant.h"

namespace pyramidkv {
namespace {

size_t PagesFor(int entries) {
  return (static_cast<size_t>(entries) + kPageEntries - 1) / kPageEntries;
}

}  // namespace

KvCache::KvCache(PagePool* pool, const KvShape& shape)
    : pool_(pool),
      shape_(shape),
      heads_(static_cast<size_t>(shape.layers) * shape.kv_heads) {}

KvCache::~KvCache() { Clear(); }

KvCache::KvCache(KvCache&& other) noexcept
    : pool_(other.pool_),
      shape_(other.shape_),
      rope_shift_(other.rope_shift_),
      heads_(std::exchange(other.heads_, {})) {}

KvCache& KvCache::operator=(KvCache&& other) noexcept {
  if (this != &other) {
    Clear();
    pool_ = other.pool_;
    shape_ = other.shape_;
    rope_shift_ = other.rope_shift_;
    heads_ = std::exchange(other.heads_, {});
  }
  return *this;
}

KvCache::Head& KvCache::head(int layer, int h) {
  return const_cast<Head&>(std::as_const(*this).head(layer, h));
}

const KvCache::Head& KvCache::head(int layer, int h) const {
  DCHECK(layer >= 0 && layer < shape_.layers);
  DCHECK(h >= 0 && h < shape_.kv_heads);
  return heads_[static_cast<size_t>(layer) * shape_.kv_heads + h];
}

Status KvCache::OutOfMemory() const {
  return Status::Runtime("out of memory: no room for " +
                         std::to_string(shape_.format.page_bytes()) +
                         " more bytes of the KV cache");
}

Status KvCache::Append(int layer, int h, int position, int count,
                       const float* k, const float* v, size_t stride) {
  return AppendRows(head(layer, h), position, {nullptr, count, k, v, stride},
                    count);
}

Status KvCache::AppendKept(int layer, int h, int position,
                           std::span<const int> rows, const float* k,
                           const float* v, size_t stride, int seen) {
  const int count = static_cast<int>(rows.size());
  const int least = rows.empty() ? 0 : rows.back() + 1;
  DCHECK(std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>()) ==
         rows.end());
  DCHECK(rows.empty() || rows.front() >= 0);
  seen = std::max(seen, least);
  const Rows kept{rows.data(), count, k, v, stride};
  if (evicted_sink_ && count < seen) {
    PKV_RETURN_IF_ERROR(GiveUnkeptRows(layer, h, position, kept, seen));
  }
  return AppendRows(head(layer, h), position, kept, seen);
}

// In one call: what receives them learns from the first one.
Status KvCache::GiveUnkeptRows(int layer, int h, int position, const Rows& rows,
                               int seen) const {
  const size_t d = shape_.format.head_dim;
  const size_t count = seen - rows.count;
  std::vector<float> k, v;
  std::vector<int32_t> positions;
  k.reserve(count * d);
  v.reserve(count * d);
  positions.reserve(count);
  for (int row = 0, next = 0; row < seen; ++row) {
    if (next < rows.count && rows[next] == row) {
      ++next;
      continue;
    }
    const size_t at = row * rows.stride;
    k.insert(k.end(), rows.k + at, rows.k + at + d);
    v.insert(v.end(), rows.v + at, rows.v + at + d);
    positions.push_back(position + row);
  }
  return evicted_sink_({layer, h, static_cast<int>(count), k.data(), v.data(),
                        positions.data()});
}

// kept: ascending indices of the head.
Status KvCache::GiveUnkept(int layer, int h, std::span<const int> kept) const {
  const Head& head = this->head(layer, h);
  const int d = shape_.format.head_dim;
  const size_t count = head.length - kept.size();
  std::vector<float> k(count * d), v(count * d);
  std::vector<int32_t> positions;
  auto next = kept.begin();
  for (int i = 0; i < head.length; ++i) {
    if (next != kept.end() && *next == i) {
      ++next;
      continue;
    }
    const size_t at = positions.size() * d;
    LoadOne(head, i, k.data() + at, v.data() + at);
    positions.push_back(head.position(i));
  }
  return evicted_sink_({layer, h, static_cast<int>(count), k.data(), v.data(),
                        positions.data()});
}

// seen: rows that there were, kept or not.
Status KvCache::AppendRows(Head& head, int position, const Rows& rows,
                           int seen) {
  if (seen == 0) return {};
  DCHECK(position >= head.seen);
  std::vector<float> waiting;
  if (rows.count > 0) {
    if (HasFinePages(shape_.format) && position + rows[0] < kFinePositions) {
      PKV_RETURN_IF_ERROR(MakeFine(head));
    }
    PKV_RETURN_IF_ERROR(MakeRoom(head, rows.count));
    waiting = WaitingKeys(head, rows.count);
    if (Status s = MakeRecent(head, position, rows, seen); !s.ok()) {
      SetLength(head, head.length);
      return s;
    }
    FitTensorScales(head, rows);
    head.AppendSides(position, rows, rope_shift_);
    head.AppendPositions(position, rows);
  }
  head.length += rows.count;
  for (int i = 0; i < rows.count; ++i) {
    const size_t offset = rows[i] * rows.stride;
    StoreOne(head, head.length - rows.count + i, rows.k + offset,
             rows.v + offset);
  }
  CodeKeys(head, head.length - rows.count, waiting, rows);

  if (position > head.seen) head.Evicted(head.seen, position);
  if (rows.count < seen) {
    int gap = 0;  // the first row that was not kept
    while (gap < rows.count && rows[gap] == gap) ++gap;
    head.Evicted(position + gap, position + seen);
  }
  head.seen = position + seen;
  TrimRecent(head);
  return {};
}

void KvCache::ReleasePages(Head* head) {
  for (std::byte* page : head->pages) pool_->Release(page);
  head->pages.clear();
  if (head->fine != nullptr) pool_->Release(head->fine);
  head->fine = nullptr;
  for (std::byte* page : head->recent) pool_->Release(page);
  head->recent.clear();
  for (std::byte* page : head->top_pages) pool_->Release(page);
  head->top_pages.clear();
}

// A page that others share is replaced by a copy of our own.
Status KvCache::MakeOwn(size_t page_bytes, std::byte** page) {
  if (pool_->Unique(*page)) return {};
  std::byte* const copy = pool_->Allocate(page_bytes);
  if (copy == nullptr) return OutOfMemory();
  std::memcpy(copy, *page, page_bytes);
  pool_->Release(*page);
  *page = copy;
  return {};
}

// Pages of our own for the next `count` entries.
Status KvCache::MakeRoom(Head& head, int count) {
  const size_t page_bytes = shape_.format.page_bytes();
  if (head.length % kPageEntries != 0) {
    PKV_RETURN_IF_ERROR(MakeOwn(page_bytes, &head.pages.back()));
  }
  const size_t pages = PagesFor(head.length + count);
  while (head.pages.size() < pages) {
    std::byte* const page = pool_->Allocate(page_bytes);
    if (page == nullptr) {
      SetLength(head, head.length);
      return OutOfMemory();
    }
    head.pages.push_back(page);
  }
  return {};
}

// rows: the first ones of the head.
void KvCache::FitTensorScales(Head& head, const Rows& rows) {
  if (!shape_.tensor_scales || head.length > 0) return;
  const PageFormat& f = shape_.format;
  const int seen = rows[rows.count - 1] + 1;  // kept or not
  const auto fit = [&](Codec codec, const float* x, const float* mean) {
    return IsQuantized(codec)
               ? LargestScale(codec, f.head_dim, x, seen, rows.stride, mean)
               : 0.0f;
  };
  head.tensor_scales = {fit(f.k, rows.k, head.key_rounding_or_null()),
                        fit(f.v, rows.v, nullptr)};
}

HeadView KvCache::View(int layer, int h) const {
  const Head& head = this->head(layer, h);
  HeadView view;
  view.pages = head.pages.data();
  view.length = head.length;
  view.positions = head.positions.empty() ? nullptr : head.positions.data();
  view.base = head.base;
  if (!head.bias.empty()) view.bias = head.bias.data();
  if (!head.scores.empty()) view.scores = head.scores.data();
  if (!head.rope.empty()) view.rope = head.rope.data();
  view.key_rounding = head.key_rounding_or_null();
  view.fine_page = &head.fine;
  view.fine = FineEntries(head);
  view.recent_pages = head.recent.data();
  view.recent_begin = head.recent.empty() ? head.length : head.recent_begin;
  view.top_pages = head.top_pages.data();
  view.top = head.top;
  view.top_marks = head.top_marks;
  view.top_origin = head.top_origin;
  return view;
}

int KvCache::length(int layer, int h) const { return head(layer, h).length; }

void KvCache::Decode(int layer, int h, float* k, float* v) const {
  const Head& head = this->head(layer, h);
  const size_t d = shape_.format.head_dim;
  for (int i = 0; i < head.length; ++i) {
    LoadOne(head, i, k != nullptr ? k + i * d : nullptr,
            v != nullptr ? v + i * d : nullptr);
  }
}

Status KvCache::Compact(int layer, int h, std::span<const int> kept) {
  Head& head = this->head(layer, h);
  const int n = static_cast<int>(kept.size());
  DCHECK(std::adjacent_find(kept.begin(), kept.end(), std::greater_equal<>()) ==
         kept.end());
  DCHECK(kept.empty() || (kept.front() >= 0 && kept.back() < head.length));
  if (n == head.length) return {};

  if (evicted_sink_) PKV_RETURN_IF_ERROR(GiveUnkept(layer, h, kept));
  const std::vector<float> moved = MovedKeys(head, kept);
  PKV_RETURN_IF_ERROR(MakeFineOwn(head));
  PKV_RETURN_IF_ERROR(MoveEntries(head, kept));
  MoveFine(head, kept);
  MoveRecent(head, kept);
  MoveTop(head, kept);
  CodeMovedKeys(head, n, moved);
  int gap = 0;  // the first entry that leaves
  while (gap < n && kept[gap] == gap) ++gap;
  head.Evicted(head.position(gap), head.seen);
  head.KeepPositions(kept);
  SetLength(head, n);
  return {};
}

// Entry kept[i] moves to i. Since kept[i] >= i, going upwards never overwrites
// what is still to be moved. Pages in which nothing moves stay as they are,
// shared ones too; a shared page in which something moves is replaced.
Status KvCache::MoveEntries(Head& head, std::span<const int> kept) {
  const PageFormat& format = shape_.format;
  const size_t n = kept.size();
  std::vector<std::byte*> targets(PagesFor(static_cast<int>(n)), nullptr);
  for (size_t p = 0; p < targets.size(); ++p) {
    const size_t last = std::min(n, (p + 1) * kPageEntries) - 1;
    if (kept[last] == static_cast<int>(last)) continue;  // so all before it
    targets[p] = pool_->Unique(head.pages[p])
                     ? head.pages[p]
                     : pool_->Allocate(format.page_bytes());
    if (targets[p] != nullptr) continue;
    for (size_t q = 0; q < p; ++q) {
      if (targets[q] != nullptr && targets[q] != head.pages[q]) {
        pool_->Release(targets[q]);
      }
    }
    return OutOfMemory();
  }

  for (size_t p = 0; p < targets.size(); ++p) {
    if (targets[p] == nullptr) continue;
    const bool in_place = targets[p] == head.pages[p];
    const size_t end = std::min(n, (p + 1) * kPageEntries);
    for (size_t i = p * kPageEntries; i < end; ++i) {
      const size_t from = kept[i];
      if (in_place && from == i) continue;
      CopyEntry(format, targets[p], i % kPageEntries,
                head.pages[from / kPageEntries], from % kPageEntries);
    }
    if (in_place) continue;
    // What comes later is read from pages behind this one.
    pool_->Release(head.pages[p]);
    head.pages[p] = targets[p];
  }
  return {};
}

// Forgets the entries from `length` on, and pages without entries.
void KvCache::SetLength(Head& head, int length) {
  const size_t pages = PagesFor(length);
  while (head.pages.size() > pages) {
    pool_->Release(head.pages.back());
    head.pages.pop_back();
  }
  head.length = length;
  head.coded = std::min(head.coded, length);
  if (!head.positions.empty()) head.positions.resize(length);
  head.ForSides([&](auto* side) {
    side->resize(length);
    Trim(side);
  });
  head.TrimPositions();
  DropFine(head);
  TrimRecent(head);
  TrimTop(head);
}

// Builds the head anew: merged entries stand between kept ones, so nearly all
// of them move.
Status KvCache::CompactAndMerge(int layer, int h, std::span<const int> kept,
                                std::span<const MergedEntry> merged) {
  if (merged.empty()) return Compact(layer, h, kept);
  DCHECK(!shape_.format.channel && !shape_.top);
  Head& old = head(layer, h);
  const PageFormat& format = shape_.format;
  const PageFormat fine = FineFormat(format);
  Head built;
  built.key_rounding = old.key_rounding;
  built.tensor_scales = old.tensor_scales;
  built.seen = old.seen;
  built.evicted_from = old.evicted_from;
  built.evicted_before = old.evicted_before;
  built.Evicted(old.position(0), old.seen);
  const int total = static_cast<int>(kept.size() + merged.size());
  Reserve(total, &built.positions);
  Reserve(total, &built.bias);
  if (!old.scores.empty()) Reserve(total, &built.scores);
  if (!old.rope.empty()) Reserve(total, &built.rope);
  Status status = MakeRoom(built, total);
  if (status.ok() && old.fine != nullptr) status = MakeFine(built);
  built.recent_begin = total;  // until there is one
  const size_t recent =
      old.recent.empty() ? 0 : old.recent.size() + FinePagesFor(merged.size());
  while (status.ok() && built.recent.size() < recent) {
    built.recent.push_back(pool_->Allocate(FinePageBytes(format)));
    if (built.recent.back() != nullptr) continue;
    built.recent.pop_back();
    status = OutOfMemory();
  }
  if (!status.ok()) {
    ReleasePages(&built);
    return status;
  }
  size_t next_kept = 0, next_merged = 0;
  for (int i = 0; i < total; ++i) {
    std::byte* const page = built.pages[i / kPageEntries];
    const bool from_old =
        next_merged == merged.size() ||
        (next_kept < kept.size() &&
         old.position(kept[next_kept]) < merged[next_merged].position);
    if (from_old) {
      const int from = kept[next_kept++];
      CopyEntry(format, page, i % kPageEntries, old.pages[from / kPageEntries],
                from % kPageEntries);
      if (from < FineEntries(old)) {
        CopyEntry(fine, built.fine, i, old.fine, from);
      }
      if (!old.recent.empty() && from >= old.recent_begin) {
        built.recent_begin = std::min(built.recent_begin, i);
        const int slot = i - built.recent_begin;
        const int old_slot = from - old.recent_begin;
        CopyEntry(fine, built.recent[slot / kFinePositions],
                  slot % kFinePositions, old.recent[old_slot / kFinePositions],
                  old_slot % kFinePositions);
      }
      built.positions.push_back(old.position(from));
      built.bias.push_back(old.bias.empty() ? 0.0f : old.bias[from]);
      if (!old.scores.empty()) built.scores.push_back(old.scores[from]);
      if (!old.rope.empty()) built.rope.push_back(old.rope[from]);
    } else {
      const MergedEntry& m = merged[next_merged++];
      DCHECK(built.positions.empty() || built.positions.back() < m.position);
      built.positions.push_back(m.position);
      built.base = built.positions.front();
      StoreOne(built, i, m.k, m.v);
      built.bias.push_back(m.bias);
      if (!old.scores.empty()) built.scores.push_back(m.score);
      if (!old.rope.empty()) built.rope.push_back(m.rope);
    }
  }
  built.length = total;
  built.base = built.positions.front();
  built.TrimPositions();
  DropFine(built);
  TrimRecent(built);
  ReleasePages(&old);
  old = std::move(built);
  return {};
}

void KvCache::SetScores(int layer, int h, std::span<const float> scores) {
  Head& head = this->head(layer, h);
  DCHECK(static_cast<int>(scores.size()) == head.length);
  Reserve(scores.size(), &head.scores);
  head.scores.assign(scores.begin(), scores.end());
}

void KvCache::SetKeyRounding(int layer, int h, std::vector<float> rounding) {
  Head& head = this->head(layer, h);
  DCHECK(head.length == 0 && IsQuantized(shape_.format.k));
  DCHECK(IsKeyRounding(rounding, shape_.format.head_dim));
  head.key_rounding = std::move(rounding);
}

std::span<float> KvCache::Scores(int layer, int h) {
  return head(layer, h).scores;
}

// Keys are rotated as f32 and stored again, quantised ones with new codes and
// scales: each time costs them another rounding.
Status KvCache::Renumber(int layer, int h, int first, const Rotation& rope) {
  DCHECK(!shape_.top);
  Head& head = this->head(layer, h);
  const PageFormat& format = shape_.format;
  for (std::byte*& page : head.pages) {
    PKV_RETURN_IF_ERROR(MakeOwn(format.page_bytes(), &page));
  }
  PKV_RETURN_IF_ERROR(MakeFineOwn(head));
  std::vector<float> table(2 * rope.pairs()), k(format.head_dim),
      v(format.head_dim);
  int table_for = 0;  // nothing is rotated by 0
  for (int i = 0; i < head.length; ++i) {
    const int delta = first + i - head.rotated_for(i);
    if (delta == 0) continue;
    if (delta != table_for) {
      RopeTable(rope.inv_freq.data(), rope.pairs(), delta, 1.0f, table.data());
      table_for = delta;
    }
    LoadOne(head, i, k.data(), v.data());
    ApplyRope(table.data(), rope.pairs(), rope.neox, 1, format.head_dim,
              k.data());
    StoreOne(head, i, k.data(), v.data());
  }
  Reserve(head.length, &head.rope);
  head.rope.resize(head.length);
  std::iota(head.rope.begin(), head.rope.end(), first);
  return {};
}

void KvCache::DropBefore(int layer, int h, int position) {
  Head& head = this->head(layer, h);
  const int before = head.LowerBound(position);
  const int pages = before == head.length ? static_cast<int>(head.pages.size())
                                          : before / kPageEntries;
  if (pages == 0) return;
  const int entries = std::min(pages * kPageEntries, head.length);
  head.Evicted(head.position(0), head.seen);
  for (int p = 0; p < pages; ++p) pool_->Release(head.pages[p]);
  head.pages.erase(head.pages.begin(), head.pages.begin() + pages);
  if (head.positions.empty()) {
    head.base += entries;
  } else {
    head.positions.erase(head.positions.begin(),
                         head.positions.begin() + entries);
  }
  head.ForSides([&](auto* side) {
    side->erase(side->begin(), side->begin() + entries);
    Trim(side);
  });
  head.length -= entries;
  head.coded = std::max(head.coded - entries, 0);
  head.recent_begin -= entries;
  DropTopBefore(head, entries);
  head.TrimPositions();
  DropFine(head);
  TrimRecent(head);
  TrimTop(head);
}

Status KvCache::Truncate(int position) {
  DCHECK(position >= 0);
  for (const Head& head : heads_) {
    if (position > head.evicted_from && position < head.evicted_before) {
      return Status::Usage("cannot go back to position " +
                           std::to_string(position) +
                           ": entries before it were evicted at position " +
                           std::to_string(head.evicted_before) +
                           "; go back to that position or later, or to " +
                           std::to_string(head.evicted_from) + " or earlier");
    }
  }
  for (Head& head : heads_) {
    if (position >= head.seen) continue;
    SetLength(head, head.LowerBound(position));
    head.seen = position;
    if (position <= head.evicted_from) {
      head.evicted_from = std::numeric_limits<int32_t>::max();
      head.evicted_before = 0;
    }
  }
  return {};
}

KvCache KvCache::Fork() const {
  KvCache copy(pool_, shape_);
  copy.heads_ = heads_;
  copy.rope_shift_ = rope_shift_;
  for (Head& head : copy.heads_) {
    for (std::byte* page : head.pages) pool_->AddReference(page);
    if (head.fine != nullptr) pool_->AddReference(head.fine);
    for (std::byte* page : head.recent) pool_->AddReference(page);
    for (std::byte* page : head.top_pages) pool_->AddReference(page);
  }
  return copy;
}

void KvCache::Clear() {
  for (Head& head : heads_) {
    ReleasePages(&head);
    head = Head();
  }
  rope_shift_ = 0;
}

HeadState KvCache::ExportHead(int layer, int h) const { return head(layer, h); }

Status KvCache::ImportHead(
    int layer, int h, int position, HeadState state,
    const std::function<Status(std::span<std::byte>)>& read_page) {
  PKV_RETURN_IF_ERROR(
      CheckHeadState(state, shape_.format, shape_.top.has_value(), position));
  Head built;
  Status status = MakeRoom(built, state.length);
  for (size_t p = 0; status.ok() && p < built.pages.size(); ++p) {
    status = read_page({built.pages[p], shape_.format.page_bytes()});
  }
  static_cast<HeadState&>(built) = std::move(state);
  if (status.ok() && FineEntries(built) > 0) {
    status = MakeFine(built);
    if (status.ok()) {
      status = read_page({built.fine, FinePageBytes(shape_.format)});
    }
  }
  const auto read = [&](size_t bytes, size_t count,
                        std::vector<std::byte*>* pages) {
    while (status.ok() && pages->size() < count) {
      std::byte* const page = pool_->Allocate(bytes);
      if (page == nullptr) {
        status = OutOfMemory();
        return;
      }
      pages->push_back(page);
      status = read_page({page, bytes});
    }
  };
  if (FineRecent(shape_.format) > 0) {
    read(FinePageBytes(shape_.format),
         FinePagesFor(built.length - built.recent_begin), &built.recent);
  }
  read(TopPageBytes(), FinePagesFor(built.top.size()), &built.top_pages);
  built.MarkTop();
  if (!status.ok()) {
    ReleasePages(&built);
    return status;
  }
  Head& old = head(layer, h);
  ReleasePages(&old);
  old = std::move(built);
  return {};
}

int64_t KvCache::bytes() const {
  int64_t sum = 0;
  for (int layer = 0; layer < shape_.layers; ++layer) sum += layer_bytes(layer);
  return sum;
}

int64_t KvCache::layer_bytes(int layer) const {
  size_t sum = 0;
  for (int h = 0; h < shape_.kv_heads; ++h) {
    const Head& head = this->head(layer, h);
    sum += head.pages.size() * shape_.format.page_bytes() + head.side_bytes();
    sum += ((head.fine != nullptr ? 1 : 0) + head.recent.size()) *
           FinePageBytes(shape_.format);
    sum += head.top_pages.size() * TopPageBytes();
  }
  return static_cast<int64_t>(sum);
}

int64_t KvCache::entries() const {
  int64_t sum = 0;
  for (const Head& head : heads_) sum += head.length;
  return sum;
}

}  // namespace pyramidkv
