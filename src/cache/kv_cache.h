// The KV cache of one sequence: for every layer and KV head, the entries that
// were kept. Lengths differ between layers and between heads; nothing is
// repeated per query head.
//
// Invariants
//   1. Entries of a head are in ascending order of original position.
//   2. Entries leave only through Compact, Truncate, DropBefore and Clear.
//   3. Positions are stored for a head only once it has lost entries from
//      its middle; before that, entry i sits at position base + i.
//   4. Beside its position an entry may have a bias (the logarithm of how many
//      tokens it stands for), a score (what a scorer gathered so far) and,
//      once the cache was renumbered, the position of its rotation. A head
//      has each of these for all of its entries or for none.
//   5. Where entries are quantised, those at positions before kFinePositions
//      are held in f16, too, in a page of their own, and are read there; with
//      4 bits per channel also the newest ones (FineRecent). These receive
//      most of the attention.
//   6. Entries that a compressor names (SetTop) are held finer, too, each in
//      its own slot of further pages, and are read there.
//   7. Keys by channel (PageFormat::channel) get their codes in groups; those
//      of a group that is not complete are read from fine pages alone. Compact
//      rounds the keys that it moves once more.
//   8. `bytes` counts pages and side arrays; both are given back to the
//      system when entries leave.
//
// Two lengths are kept apart: the logical position (of the next token, never
// decreases but for Truncate) belongs to the sequence, the physical length to
// each head.
//
// Thread safety: different (layer, head) pairs may be appended to and
// compacted in parallel; everything else from one thread.

#ifndef PYRAMIDKV_CACHE_KV_CACHE_H_
#define PYRAMIDKV_CACHE_KV_CACHE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "cache/fine_pages.h"
#include "cache/page_pool.h"
#include "cache/top_pages.h"
#include "kernels/kv_codec.h"
#include "kernels/rope.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct KvShape {
  int layers = 0;
  int kv_heads = 0;
  PageFormat format;
  // Quantised entries of a head have one scale for all K and one for all V:
  // that of the first call that appends to it. What is larger later is cut off.
  bool tensor_scales = false;
  // What SetTop holds entries in.
  std::optional<Codec> top = std::nullopt;
};

// The first of `length` entries at or after a position. positions: [length], or
// null: base + i.
inline int FirstEntryAt(const int32_t* positions, int32_t base, int length,
                        int at) {
  if (positions == nullptr) return std::clamp(at - base, 0, length);
  return static_cast<int>(std::lower_bound(positions, positions + length, at) -
                          positions);
}

// What attention reads: the pages of one head. Valid until the head changes.
struct HeadView {
  const std::byte* const* pages = nullptr;
  int first_slot = 0;  // entry i is at slot (first_slot + i) % kPageEntries
                       // of page (first_slot + i) / kPageEntries
  int length = 0;
  const int32_t* positions = nullptr;  // [length], or null: base + i
  int32_t base = 0;
  const float* bias = nullptr;    // [length] added to the logits, or null
  const float* scores = nullptr;  // [length], or null
  const int32_t* rope = nullptr;  // [length] rotated for these; null: position
  // What keys in `pages` are rounded by (kernels/key_rounding.h), or null.
  const float* key_rounding = nullptr;
  // The first `fine` entries are read from slots [0, fine) of one more page, of
  // FineFormat; what the others hold of them is coarser.
  const std::byte* const* fine_page = nullptr;
  int fine = 0;
  // The same of the newest ones: entry i is in slot i - recent_begin of these.
  const std::byte* const* recent_pages = nullptr;
  int recent_begin = 0;  // may be below 0; `length`: none
  // The same of others: entry top[i] is in slot i of top_pages, and has its bit
  // in the word of its page; pages without a word have none. Those that are
  // among the newest ones are read there.
  const std::byte* const* top_pages = nullptr;
  std::span<const int32_t> top;
  std::span<const uint64_t> top_marks;
  int top_origin = 0;  // slots that left before the first one

  int32_t position(int i) const {
    return positions != nullptr ? positions[i] : base + i;
  }
  int32_t rotated_for(int i) const {
    return rope != nullptr ? rope[i] : position(i);
  }
  int LowerBound(int at) const {
    return FirstEntryAt(positions, base, length, at);
  }
};

// An entry that stands for several.
struct MergedEntry {
  int32_t position = 0;  // of one of them
  int32_t rope = 0;      // what k is rotated for
  float bias = 0;        // logarithm of their number
  float score = 0;
  const float* k = nullptr;  // [head_dim]
  const float* v = nullptr;  // [head_dim]
};

struct HeadState;  // cache/kv_cache_io.h

// Entries of one head that leave: k and v [count, head_dim] row-major.
struct EvictedEntries {
  int layer = 0;
  int head = 0;
  int count = 0;
  const float* k = nullptr;
  const float* v = nullptr;
  const int32_t* positions = nullptr;  // [count]
};

class KvCache {
 public:
  KvCache(PagePool* pool, const KvShape& shape);
  ~KvCache();
  KvCache(KvCache&& other) noexcept;
  KvCache& operator=(KvCache&& other) noexcept;

  const KvShape& shape() const { return shape_; }

  // Receives what Compact and AppendKept do not keep, before it leaves; after
  // an error of it everything stays. Called for different heads in parallel.
  // Belongs to this object: does not move with its entries.
  using EvictedSink = std::function<Status(const EvictedEntries&)>;
  void set_evicted_sink(EvictedSink sink) { evicted_sink_ = std::move(sink); }

  // Appends `count` entries at the consecutive positions from `position`.
  // k, v: rows of head_dim values, `stride` values apart.
  // REQUIRES: position is past every one that the head has seen.
  // Errors: kRuntime if there is no memory (the head is unchanged).
  Status Append(int layer, int head, int position, int count, const float* k,
                const float* v, size_t stride);

  // The same for the rows listed in `rows` (ascending): row r of k and v is
  // appended at position `position + r`. The gather of exact prefill: only
  // what is kept ever reaches a page. `seen`: rows that there were to choose
  // from (Truncate must know); 0 means none after the last one listed.
  Status AppendKept(int layer, int head, int position,
                    std::span<const int> rows, const float* k, const float* v,
                    size_t stride, int seen = 0);

  HeadView View(int layer, int head) const;
  int length(int layer, int head) const;

  // Entries of a head as f32, k and v [length, head_dim] row-major; either may
  // be null.
  void Decode(int layer, int head, float* k, float* v) const;

  // Holds the entries `top` (ascending) in KvShape::top, and no others. k, v:
  // their rows [top.size(), head_dim]; of those that are held so already, what
  // there is stays. An evicted one leaves as any other.
  // REQUIRES: KvShape::top, and none of them below HeadView::fine.
  // Errors: kRuntime if there is no memory (the head is unchanged).
  Status SetTop(int layer, int head, std::span<const int> top, const float* k,
                const float* v);

  // Entry i if it is in a fine page; k, v: [head_dim]. False: it is not.
  bool LoadFine(int layer, int head, int i, float* k, float* v) const;

  // Keeps only the entries `kept` (ascending indices into the head, no
  // duplicates) and gives the rest back. Kept bits are unchanged.
  Status Compact(int layer, int head, std::span<const int> kept);

  // The same, and puts `merged` (ascending, at positions that are not kept)
  // between them.
  Status CompactAndMerge(int layer, int head, std::span<const int> kept,
                         std::span<const MergedEntry> merged);

  // Gives every entry of a head a score ([length]); from then on they move
  // with their entries, and appended entries start at 0.
  void SetScores(int layer, int head, std::span<const float> scores);
  // What the quantised keys of a head are rounded by from now on
  // (kernels/key_rounding.h). REQUIRES: the head is empty.
  void SetKeyRounding(int layer, int head, std::vector<float> rounding);

  // To gather into: [length], or empty.
  std::span<float> Scores(int layer, int head);

  // Rotates the keys of a head so that entry i lies at first + i instead of
  // where it was rotated for: its position, or what the last renumbering said.
  // Source: StreamingLLM (arXiv 2309.17453), section 3.2: positions within the
  // cache. Departure: done now and then, not for every token.
  // Errors: kRuntime if there is no memory for pages that a fork shares.
  Status Renumber(int layer, int head, int first, const Rotation& rope);
  // Entries appended from now on are rotated for position - shift.
  void set_rope_shift(int shift) { rope_shift_ = shift; }
  int rope_shift() const { return rope_shift_; }

  // Sliding-window layers: gives back whole pages whose entries all lie
  // before `position`. Entries of a partly covered page stay.
  void DropBefore(int layer, int head, int position);

  // Forgets every entry at or after `position`; does nothing if there are
  // none. Refused (kUsage) if an entry before `position` was evicted after an
  // entry at or past it was seen: then the state before cannot be restored.
  // Positions that an Append skipped count as evicted. With several evictions
  // the answer errs towards refusal: all positions from the lowest evicted
  // one to the newest one seen at the last eviction are refused.
  Status Truncate(int position);

  // Shares all pages; either side copies a page before it writes into it.
  KvCache Fork() const;

  void Clear();

  // What of a head has to be stored: its state, and its pages as they are
  // (View), which read_page fills again in their order.
  HeadState ExportHead(int layer, int head) const;
  // In place of what the head holds, in a sequence that has seen `position`
  // tokens. On an error the head is unchanged.
  // Errors: CheckHeadState's, read_page's, kRuntime if there is no memory.
  Status ImportHead(
      int layer, int head, int position, HeadState state,
      const std::function<Status(std::span<std::byte> page)>& read_page);

  int64_t bytes() const;
  int64_t layer_bytes(int layer) const;
  int64_t entries() const;

 private:
  struct Head;  // one (layer, KV head), in kv_cache.cc
  struct Rows;  // of Append and AppendKept

  Head& head(int layer, int h);
  const Head& head(int layer, int h) const;
  Status AppendRows(Head& head, int position, const Rows& rows, int seen);
  Status GiveUnkeptRows(int layer, int h, int position, const Rows& rows,
                        int seen) const;
  Status GiveUnkept(int layer, int h, std::span<const int> kept) const;
  std::vector<float> WaitingKeys(const Head& head, int count) const;
  void CodeKeys(Head& head, int length, const std::vector<float>& waiting,
                const Rows& rows);
  std::vector<float> MovedKeys(const Head& head,
                               std::span<const int> kept) const;
  void CodeMovedKeys(Head& head, int count, const std::vector<float>& keys);
  void FitTensorScales(Head& head, const Rows& rows);
  int FineEntries(const Head& head) const;
  int RecentFrom(const Head& head) const;
  Status MakeRecent(Head& head, int position, const Rows& rows, int seen);
  void MoveRecent(Head& head, std::span<const int> kept);
  void TrimRecent(Head& head);
  size_t TopPageBytes() const;
  void MoveTop(Head& head, std::span<const int> kept);
  void DropTopBefore(Head& head, int entries);
  void TrimTop(Head& head);
  bool LoadFine(const Head& head, int i, float* k, float* v) const;
  void LoadOne(const Head& head, int i, float* k, float* v) const;
  void StoreOne(Head& head, int i, const float* k, const float* v);
  Status MakeOwn(size_t page_bytes, std::byte** page);
  Status MakeFine(Head& head);
  Status MakeFineOwn(Head& head);
  void MoveFine(Head& head, std::span<const int> kept);
  void DropFine(Head& head);
  void ReleasePages(Head* head);
  Status MakeRoom(Head& head, int count);
  Status MoveEntries(Head& head, std::span<const int> kept);
  void SetLength(Head& head, int length);
  Status OutOfMemory() const;

  PagePool* pool_;
  KvShape shape_;
  int rope_shift_ = 0;
  std::vector<Head> heads_;  // [layers, kv_heads]
  EvictedSink evicted_sink_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_CACHE_H_
