// The stored entries of one KV head of one layer: pages that hold all of them,
// overlays that hold some of them finer, and what they have beside K and V.
//
// Invariants
//   1. Entries are in ascending order of original position.
//   2. Positions are stored only once the head has lost entries from its
//      middle; before that, entry i sits at position base + i.
//   3. Beside its position an entry may have a bias (the logarithm of how many
//      tokens it stands for), a score (what a scorer gathered so far) and, once
//      the head was renumbered, the position of its rotation. A head has each
//      of these for all of its entries or for none.
//   4. An entry is read from the first of these that holds it: sinks, recent
//      entries (of those only what is new for the row that reads), top entries,
//      the pages of all. Segments() says so, and nothing else does.
//   5. An entry gets codes once, when it is stored; Renumber gives new ones,
//      and so does a rounding that is fitted again (kFitTokens). Keys by
//      channel get them when their group is complete, and until then are
//      recent entries; Keep and Merge give new ones to those that move.
//
// Methods that need memory and find none leave the head unchanged (kRuntime),
// but for codes of the same values with a scale that was fitted anew.
// A copy shares all pages; either side copies a page before it writes into it.
//
// Thread safety: different heads in parallel, copies too.

#ifndef PYRAMIDKV_CACHE_KV_HEAD_H_
#define PYRAMIDKV_CACHE_KV_HEAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cache/entry_sides.h"
#include "cache/head_format.h"
#include "cache/head_state.h"
#include "cache/overlay.h"
#include "cache/page_run.h"
#include "kernels/rope.h"
#include "kernels/segment.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// A head without finer entries. Valid until it changes.
struct HeadView {
  const std::byte* const* pages = nullptr;  // entry i is in slot i
  int length = 0;
  const int32_t* positions = nullptr;  // [length], or null: base + i
  int32_t base = 0;
  const float* bias = nullptr;    // [length] added to the logits, or null
  const float* scores = nullptr;  // [length], or null
  const int32_t* rope = nullptr;  // [length] rotated for these; null: position
  // Rounding of keys in `pages` (kernels/key_rounding.h), or null.
  const float* key_rounding = nullptr;
  int sinks = 0;  // the first entries are held finer for their positions

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

// A head as a row sees it; each entry in one of these. Valid until the head
// changes.
struct HeadSegments {
  // Sinks, entries that nothing holds finer, top ones, recent ones: the order
  // in which attention takes their results together.
  static constexpr int kBase = 1;
  std::array<Segment, 4> all;

  int parts() const;
  // Entry i as f32; k, v: [head_dim], either may be null. REQUIRES: it is seen.
  void Load(int i, float* k, float* v) const;
};

// Rows that are stored: row r of them is row rows[r], or r, of k and v.
struct EntryRows {
  const int* rows = nullptr;  // [count] ascending; null: all from 0
  int count = 0;
  const float* k = nullptr;  // rows of head_dim values, `stride` values apart
  const float* v = nullptr;
  size_t stride = 0;

  int operator[](int r) const { return rows != nullptr ? rows[r] : r; }
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

class KvHead {
 public:
  // The pool outlives the head.
  KvHead(PagePool* pool, const HeadFormat& format);

  int length() const { return sides_.length; }
  int64_t bytes() const;  // of pages and arrays
  HeadView View() const;
  // A row's view of it: entries at or after position `visible`, but for the
  // last `later` ones, which were appended for later rows.
  HeadSegments Segments(int visible = 0, int later = 0) const;
  // All entries as f32, k and v [length, head_dim]; either may be null.
  void Decode(float* k, float* v) const;

  // Appends rows at the positions position + rows[r], rotated for rope_shift
  // less. seen: rows that there were, kept or not.
  // REQUIRES: position is past every one that the head has seen.
  Status Append(int position, const EntryRows& rows, int seen, int rope_shift);

  // Keeps only the entries `kept` (ascending indices, no duplicates).
  Status Keep(std::span<const int> kept);
  // The same, and puts `merged` (ascending, not empty, at positions that are
  // not kept) between them.
  Status Merge(std::span<const int> kept, std::span<const MergedEntry> merged);
  // Gives back whole pages whose entries all lie before `position`.
  void DropBefore(int position);
  // Rotates keys so that entry i lies at first + i instead of where it was
  // rotated for. Quantised keys are rounded once more.
  Status Renumber(int first, const Rotation& rope);

  // Holds the entries `top` (ascending) as top ones, and no others. k, v: their
  // rows [top.size(), head_dim]; of those that are held so, the bits stay.
  // REQUIRES: HeadFormat::top, and none of them a sink.
  Status SetTop(std::span<const int> top, const float* k, const float* v);
  // Scores move with their entries, and those of appended entries begin at 0.
  void SetScores(std::span<const float> scores);       // [length]
  std::span<float> scores() { return sides_.scores; }  // [length], or empty
  // Rounds quantised keys by this, those that are there with new codes.
  Status SetKeyRounding(std::vector<float> rounding);
  // Whether one scale for all entries grows with the next ones that are larger:
  // while the head has seen few tokens, or keys by whose queries nothing was
  // weighed.
  bool scales_grow() const;
  // By what they are rounded now (kernels/key_rounding.h); empty: nothing.
  std::span<const float> key_rounding() const { return key_rounding_; }

  // The parts to store: the state, and all pages in their order.
  HeadState Export() const;
  void ForEachPage(
      const std::function<void(std::span<const std::byte>)>& show) const;
  // In place of what the head holds; read_page fills pages in that order. In a
  // sequence that has seen `position` tokens.
  // Errors: CheckHeadState's, read_page's; the head is unchanged then.
  Status Import(
      int position, HeadState state,
      const std::function<Status(std::span<std::byte> page)>& read_page);

 private:
  const float* rounding_of_keys() const {
    return key_rounding_.empty() ? nullptr : key_rounding_.data();
  }
  Rounding rounding() const {
    return {rounding_of_keys(), tensor_scales_[0], tensor_scales_[1]};
  }
  Rounding top_rounding() const {
    return {IsQuantized(top_.run().format().k) ? rounding_of_keys() : nullptr};
  }
  Status OutOfMemory() const;

  // The rules of overlays.
  int SinksAmong(int position, const EntryRows& rows) const;
  int FirstRecentRow(int position, const EntryRows& rows, int seen) const;
  int RecentFrom(int seen, int length) const;
  void ReleaseAged();

  Status MakeRoom(const EntryRows& rows, int sinks, int first_recent);

  // How entries are rounded alike (kv_head_fit.cc).
  Status FitTensorScales(const EntryRows& rows);
  Status Recode(std::vector<float> key_rounding, std::array<float, 2> scales);

  bool MakeOverlaysOwn();
  void Store(int i, const float* k, const float* v);
  // Where an entry of a merged head comes from: one of this head, or a new one.
  struct Source {
    int entry;
    const MergedEntry* merged;
  };
  std::vector<Source> Interleave(std::span<const int> kept,
                                 std::span<const MergedEntry> merged) const;
  EntrySides SidesOf(const std::vector<Source>& order) const;
  bool AppendCopy(const KvHead& from, int entry);
  bool AppendMerged(const MergedEntry& entry);

  // Keys by channel (kv_head_channel.cc).
  std::vector<float> WaitingKeys(int count) const;
  std::vector<float> MovedKeys(std::span<const int> kept) const;
  void CodeRows(int length, const std::vector<float>& waiting,
                const EntryRows& rows);
  void CodeLast(const std::vector<float>& keys);

  PagePool* pool_;
  HeadFormat format_;
  EntrySides sides_;
  int32_t seen_ = 0;   // one past the newest position appended
  int32_t coded_ = 0;  // HeadState::coded
  std::array<float, 2> tensor_scales_ = {0, 0};
  std::vector<float> key_rounding_;
  PageRun base_;
  RangeOverlay sinks_, recent_;
  ListOverlay top_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_HEAD_H_
