// One head of a cold tier: its index, its blocks, and what was selected.
//
// Full blocks are in the file (if there is one), and some of them in memory.
// The last block stays in a page of its own until it is full.
//
// Thread safety: Select and Fetch of different heads in parallel.

#ifndef PYRAMIDKV_CACHE_COLD_HEAD_H_
#define PYRAMIDKV_CACHE_COLD_HEAD_H_

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cache/block_file.h"
#include "cache/cold_extents.h"
#include "cache/cold_residents.h"
#include "cache/cold_scratch.h"
#include "cache/cold_selection.h"
#include "cache/cold_tier.h"
#include "cache/fetch_queue.h"
#include "cache/page_pool.h"

namespace pyramidkv {

// A block and what aligns the next one.
size_t ColdBlockBytes(const PageFormat& format);
// Blocks of `full` that memory may hold.
int ResidentBlocks(double resident, int full);

// Common to the heads of a tier. No files and no queue if all is in memory.
struct ColdShared {
  ColdTierOptions options;
  size_t block_bytes = 0;
  std::shared_ptr<PagePool> pages;  // of a tier and its forks
  ColdScratchPool scratch;
  // The last one is the tier's own, which it alone writes; those before it are
  // of the tiers that it was forked from.
  std::vector<std::shared_ptr<BlockFile>> files;
  std::unique_ptr<FetchQueue> queue;

  BlockFile* own_file() const {
    return files.empty() ? nullptr : files.back().get();
  }
  int own_number() const { return static_cast<int>(files.size()) - 1; }
  bool is_forked() const { return pages.use_count() > 1; }
};

class ColdHead {
 public:
  ColdHead(ColdShared* shared, std::unique_ptr<KeyIndex> index);
  ~ColdHead();
  ColdHead(const ColdHead&) = delete;
  ColdHead& operator=(const ColdHead&) = delete;

  // As the methods of ColdTier.
  Status Append(int count, const float* k, const float* v, size_t stride,
                const int32_t* positions);
  void Select(const float* q, int group, float scale);
  Status Fetch(ColdView* view);
  Status Decode(float* k, float* v) const;
  ColdHeadState Export() const;
  Status ShowBlocks(const ShowPage& show) const;
  Status Import(int position, ColdHeadState state, const ReadPage& read_page);

  // Makes `to`, which is empty, go on as this one, over the same blocks.
  // Errors: kRuntime, no memory.
  Status ForkInto(ColdHead* to);

  // In memory, the last one too.
  int pages() const { return residents_.size() + (tail_ != nullptr ? 1 : 0); }
  int length() const { return static_cast<int>(positions_.size()); }
  std::span<const int32_t> positions() const { return positions_; }
  int64_t bytes() const;  // without pages and index
  int64_t index_bytes() const { return index_->bytes(); }
  void AddStats(ColdTierStats* stats) const;

 private:
  struct Rows {
    const float* k;
    const float* v;
    size_t stride;
    int first;  // entry of row 0
  };

  int full_blocks() const { return length() / kBlockEntries; }
  int tail_entries() const { return length() % kBlockEntries; }
  int Capacity(int full_blocks) const;
  void Release(std::vector<std::byte*>* pages);

  // Makes `pages` hold exactly `count` pages to write to, from those that are
  // there and that no fork reads.
  Status Resize(int count, std::vector<std::byte*>* pages);
  // Encodes and writes the blocks [full_blocks(), after); the last ones go to
  // `pages`, too.
  Status Store(const Rows& rows, int after,
               const std::vector<std::byte*>& pages);
  Status Write(int block, int count, const std::byte* data);
  const BlockFile& FileOf(int block) const {
    return *shared_->files[extents_.File(block)];
  }
  // Entries [begin, end) into their slots of consecutive blocks, of which the
  // first is block `block`.
  void Encode(const Rows& rows, int begin, int end, int block,
              std::byte* blocks) const;

  void Choose(const float* q, int group, float scale);
  // Blocks that memory may hold while the chosen ones are attended to.
  int Room() const;
  // Where the round ends that begins with chosen block `begin`.
  int RoundEnd(int begin) const;
  // Begins to read the round from begin_ on; those of the last `spared` rounds
  // stay in memory, this one counted.
  void StartRound(int spared);
  void StartReads(std::vector<int32_t> missing, int spared);
  // Read blocks are in memory from now on; failed ones are not.
  void FinishReads(bool cancel = false);
  // All blocks in their order, from memory or in large pieces from the file,
  // then the last one.
  using VisitBlock = std::function<Status(int block, const std::byte* page)>;
  Status VisitBlocks(const VisitBlock& visit) const;
  Status VisitAdjacent(int first, int count, std::byte* buffer,
                       const VisitBlock& visit) const;
  Status ImportBlocks(int full, const ReadPage& read_page);

  ColdShared* shared_;
  std::unique_ptr<KeyIndex> index_;
  std::vector<int32_t> positions_;  // [length]
  ColdExtents extents_;
  ColdResidents residents_;
  std::byte* tail_ = nullptr;  // null until there are entries

  // The last Select's.
  bool selected_ = false;  // since the last Append
  std::vector<int32_t> chosen_;
  // The chosen blocks [begin_, end_) are what the next Fetch gives. Not
  // started: they are not asked for yet, and there is no end_.
  int begin_ = 0;
  int end_ = 0;
  bool started_ = false;
  uint32_t first_step_ = 0;       // of residents_, since the last Select
  std::vector<int32_t> loading_;  // ascending; one piece of the job each
  ReadJob job_;
  Status failed_;
  ColdTierStats stats_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_HEAD_H_
