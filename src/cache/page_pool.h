// Pages for KV entries, from arenas that we map ourselves, so that memory
// that the cache gives back really leaves the process.
//
// An arena is one anonymous mapping of kArenaBytes (huge pages are asked
// for). A freed page's memory is given back at once (madvise DONTNEED); an
// arena without live pages is unmapped at once. Pages are reference counted,
// so that a fork shares them.
//
// Thread safety: all functions may be called from any thread.

#ifndef PYRAMIDKV_CACHE_PAGE_POOL_H_
#define PYRAMIDKV_CACHE_PAGE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>

namespace pyramidkv {

inline constexpr size_t kArenaBytes = size_t{2} << 20;

class PagePool {
 public:
  // most_bytes: of arenas; beyond it is as if the system had no memory.
  explicit PagePool(int64_t most_bytes = std::numeric_limits<int64_t>::max());
  ~PagePool();  // REQUIRES: no live pages.
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // One page of `bytes` > 0, with one reference; zeroed. Pages begin at
  // multiples of 64.
  // Null if the system has no memory.
  std::byte* Allocate(size_t bytes);
  void AddReference(std::byte* page);
  // True if this was the only reference.
  bool Unique(const std::byte* page) const;
  // Drops one reference; the last one gives the memory back.
  void Release(std::byte* page);

  int64_t live_bytes() const;    // of pages with references
  int64_t mapped_bytes() const;  // of arenas

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_PAGE_POOL_H_
