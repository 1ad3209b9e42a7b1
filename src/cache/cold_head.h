// One head of a cold tier: its index, its blocks, and what was selected.
//
// Full blocks are in the file (if there is one), and some of them in memory.
// The last block stays in a page of its own until it is full.
//
// Thread safety: Select and Fetch of different heads in parallel.

#ifndef PYRAMIDKV_CACHE_COLD_HEAD_H_
#define PYRAMIDKV_CACHE_COLD_HEAD_H_

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cache/cold_residents.h"
#include "cache/cold_selection.h"
#include "cache/cold_tier.h"
#include "cache/page_pool.h"

namespace pyramidkv {

// What a Select needs for a moment; so many exist as run at the same time.
struct ColdScratch {
  std::vector<float> index;
  std::vector<float> best;  // [group, blocks]
};

class ColdScratchPool {
 public:
  std::unique_ptr<ColdScratch> Take();
  void Return(std::unique_ptr<ColdScratch> scratch);
  int64_t bytes() const;

 private:
  mutable std::mutex mutex_;  // guards free_
  std::vector<std::unique_ptr<ColdScratch>> free_;
};

// What the heads of a tier share. The file is null if all is in memory.
struct ColdShared {
  ColdTierOptions options;
  size_t block_bytes = 0;
  PagePool pages;
  ColdScratchPool scratch;
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

  int length() const { return static_cast<int>(positions_.size()); }
  std::span<const int32_t> positions() const { return positions_; }
  int64_t bytes() const;  // without pages and index
  int64_t index_bytes() const { return index_->bytes(); }
  void AddStats(ColdTierStats* stats) const;

 private:
  int full_blocks() const { return length() / kBlockEntries; }
  int tail_entries() const { return length() % kBlockEntries; }
  void Release(std::vector<std::byte*>* pages);

  ColdShared* shared_;
  std::unique_ptr<KeyIndex> index_;
  std::vector<int32_t> positions_;  // [length]
  ColdResidents residents_;
  std::byte* tail_ = nullptr;  // null until there are entries
  std::vector<int32_t> chosen_;
  bool selected_ = false;  // since the last Append
  ColdTierStats stats_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_HEAD_H_
