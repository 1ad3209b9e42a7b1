// Pages of one format that hold slots 0, 1, ... of a KV head: all its entries,
// or those of an overlay.
//
// A copy shares all pages; either side copies a page before it writes into it.
// Pages without slots are given back at once.
//
// Thread safety: different runs may be changed in parallel, copies too.

#ifndef PYRAMIDKV_CACHE_PAGE_RUN_H_
#define PYRAMIDKV_CACHE_PAGE_RUN_H_

#include <cstddef>
#include <span>
#include <vector>

#include "cache/page_pool.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

class PageRun {
 public:
  // The pool outlives the run.
  PageRun(PagePool* pool, const PageFormat& format);
  PageRun(const PageRun& other);
  PageRun(PageRun&& other) noexcept;
  PageRun& operator=(PageRun other) noexcept;
  ~PageRun();

  // Another one of the same pool and format, without slots.
  PageRun Empty() const { return PageRun(pool_, format_); }

  const PageFormat& format() const { return format_; }
  int size() const { return size_; }  // slots
  std::span<std::byte* const> pages() const { return pages_; }
  size_t bytes() const { return pages_.size() * page_bytes(); }

  // Room for slots [size(), size), in pages of our own, so that they can be
  // written. False: there is no memory; nothing has changed.
  bool Reserve(int size);
  // From then on there are so many more slots. REQUIRES: room for them.
  void Add(int slots);
  // Only the first slots stay; room beyond them is given back, too.
  void Shrink(int size);
  // All pages of our own. False: there is no memory.
  bool MakeOwn();

  // Slot kept[i] becomes slot i; the others leave. kept: ascending, without
  // duplicates. Pages in which nothing moves stay as they are, shared ones too.
  // False: there is no memory, and nothing has changed; never if all pages are
  // our own.
  bool Keep(std::span<const int> kept);
  // The first pages leave; slots count from the next one.
  void DropFront(int pages);

  // REQUIRES, where a slot is written: its page is our own. Keys by channel are
  // left out, as in kernels/kv_codec.h.
  void Store(int slot, const float* k, const float* v,
             const Rounding& rounding = {});
  void Copy(int slot, const PageRun& from, int from_slot);
  void StoreKeys(int first, int count, const float* k);  // by channel: a group

 private:
  int PagesFor(int size) const {
    return (size + format_.entries - 1) / format_.entries;
  }
  size_t page_bytes() const { return format_.page_bytes(); }
  std::byte* page(int slot) const { return pages_[slot / format_.entries]; }
  bool MakeOwn(std::byte** page);
  bool MakeTargets(std::span<const int> kept, std::vector<std::byte*>* targets);

  PagePool* pool_;
  PageFormat format_;
  int size_ = 0;
  std::vector<std::byte*> pages_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_PAGE_RUN_H_
