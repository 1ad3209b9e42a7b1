// Entries that left the cache of one sequence but not the machine: in blocks
// of 16 entries of one layer and KV head, all of them in memory or in a file
// with a share of them in memory. An index in memory estimates which blocks a
// query attends to; they are read while the layer before is still computed.
//
//   tier->Select(layer, head, q, group, scale);  // in the layer before
//   ...
//   do {
//     tier->Fetch(layer, head, &view);           // waits for what is missing
//     ...                                        // attends to the view
//   } while (!view.last());
//
// Where more is selected than memory may hold, it comes in several views.
//
// The selection depends on the queries alone, never on what happens to be
// in memory or on time.
//
// Source: InfiniGen (arXiv 2406.19707), sections 4.2 and 4.3. Departures: whole
// blocks (what a disk reads at once), the union over the query heads of a
// group, and a pool per head.
//
// The file has no name (it is unlinked as soon as it is open), so nothing is
// left of it however the process ends. It grows by posix_fallocate before
// anything is written: a full disk is an error before entries are lost.
//
// Thread safety: Select and Fetch of different (layer, head) in parallel;
// everything else from one thread.

#ifndef PYRAMIDKV_CACHE_COLD_TIER_H_
#define PYRAMIDKV_CACHE_COLD_TIER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/cold_state.h"
#include "cache/key_index.h"
#include "kernels/kv_codec.h"
#include "kernels/segment.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

enum class Victim { kFifo, kLru, kCounter };

struct ColdTierOptions {
  int layers = 0;
  int kv_heads = 0;
  PageFormat format;  // entries == kBlockEntries
  IndexKind index = IndexKind::kSign;
  double partial = 0.3;
  // [layers, kv_heads, head_dim, head_dim] for IndexKind::kSkew; outlives it.
  const float* skew = nullptr;
  double alpha = 6;    // logits below the best that are still fetched
  double fetch = 0.2;  // at most this share of a head's blocks
  // Share of the blocks that memory holds, but kColdPartBlocks of a head while
  // it attends to so many; 1: no file.
  double resident = 1;
  Victim victim = Victim::kCounter;
  std::string directory;  // of the file; empty: the system's for such files
};

// Blocks attended to at once: cut at multiples of it, a result does not
// depend on how much memory holds.
inline constexpr int kColdPartBlocks = 8;
inline constexpr int kColdPartEntries = kColdPartBlocks * kBlockEntries;

// A run of what was selected of one head. Valid until its next Fetch, Select or
// Append.
struct ColdView {
  std::vector<const std::byte*> pages;  // of `format`
  int length = 0;    // entries; only the last page may be partly filled
  int first = 0;     // of the selected ones; a multiple of kColdPartEntries
  int selected = 0;  // entries, in all views

  bool last() const { return first + length >= selected; }
  // Its entries from `at` on, a multiple of kColdPartEntries, as many as are
  // attended to at once. format: ColdTierOptions::format.
  Segment Part(const PageFormat& format, int at) const {
    Segment part;
    part.format = format;
    part.pages = pages.data() + at / kBlockEntries;
    part.end = std::min(kColdPartEntries, length - at);
    return part;
  }
};

// Since the tier was made, over all heads.
struct ColdTierStats {
  int64_t steps = 0;            // Select calls of layer and head
  int64_t selected_blocks = 0;  // of which
  int64_t read_blocks = 0;      // were not in memory
  int64_t candidate_blocks = 0;
  int64_t read_bytes = 0;
  int64_t written_bytes = 0;
  double read_seconds = 0;   // time during which reads were under way
  double stall_seconds = 0;  // of which Fetch waited
};

class ColdTier {
 public:
  // Errors: kRuntime if there can be no such file (says which directory).
  static Result<std::unique_ptr<ColdTier>> Create(
      const ColdTierOptions& options);
  virtual ~ColdTier() = default;

  // Appends entries after what a head has: rows of head_dim values, `stride`
  // values apart, at `positions` [count] (kept for sessions and reports).
  // Errors: kRuntime if there is no room on the disk or in memory; the head
  // is unchanged.
  virtual Status Append(int layer, int head, int count, const float* k,
                        const float* v, size_t stride,
                        const int32_t* positions) = 0;
  // After many Appends: writes what is due and gives memory above the
  // resident share back, the system's copies of the file too.
  virtual Status Settle() = 0;

  virtual int length(int layer, int head) const = 0;
  virtual std::span<const int32_t> positions(int layer, int head) const = 0;

  // Chooses blocks for the queries [group, head_dim] after RoPE (scale: on
  // q.k) and begins to read those that are not in memory. Entries of the last,
  // partly filled block are always among them.
  virtual void Select(int layer, int head, const float* q, int group,
                      float scale) = 0;
  // The first blocks of the last Select, then the next ones, in ascending
  // order; after the last view comes the first again. Waits for what has to be
  // read. Errors: kRuntime for a read that failed: this head's alone.
  virtual Status Fetch(int layer, int head, ColdView* view) = 0;

  // All entries of a head as f32 [length, head_dim]; either may be null. Reads
  // the file in large pieces and leaves what is in memory as it is.
  virtual Status Decode(int layer, int head, float* k, float* v) const = 0;

  // The parts of a head to store: its state, and its blocks, whose pages (of
  // the format's page_bytes) are shown in their order, also a partly filled
  // last one. Errors: the file's, and `show`'s.
  virtual ColdHeadState Export(int layer, int head) const = 0;
  virtual Status ShowBlocks(int layer, int head,
                            const ShowPage& show) const = 0;
  // The same back into an empty head of a tier with the same options, of a
  // sequence that has seen `position` tokens: it goes on as the stored one.
  // Errors: kModel, no head can be like this; as Append; read_page's. The tier
  // is of no more use then.
  virtual Status Import(int layer, int head, int position, ColdHeadState state,
                        const ReadPage& read_page) = 0;
  // A hash of the index's basis beside its state (the skew); 0: nothing.
  virtual uint64_t index_basis() const = 0;

  // A second tier that goes on from here as this one does, whatever the other
  // does then; they end in any order. Full blocks are shared, in memory and in
  // files: a fork costs a copy of the index and of the positions, one block of
  // each head, and a file of its own for the blocks that it adds. Shared blocks
  // and files stay until the last tier that reads them ends; bytes() and
  // file_bytes() of each count them. stats() begin at 0.
  // Errors: kRuntime without memory or a file.
  virtual Result<std::unique_ptr<ColdTier>> Fork() = 0;

  // Forgets everything.
  virtual void Clear() = 0;

  virtual int64_t bytes() const = 0;        // memory: blocks, index, the rest
  virtual int64_t index_bytes() const = 0;  // of which the index
  virtual int64_t file_bytes() const = 0;
  virtual int64_t entries() const = 0;
  virtual ColdTierStats stats() const = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_TIER_H_
