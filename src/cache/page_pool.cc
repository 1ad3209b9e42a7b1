#include "cache/page_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"

namespace pyramidkv {
namespace {

constexpr size_t kOsPageBytes = 4096;

uintptr_t Address(const std::byte* p) { return reinterpret_cast<uintptr_t>(p); }

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// An anonymous mapping aligned to kArenaBytes, so that it can be one huge
// page and so that a page's address says which arena it is in. Null if the
// system refuses.
std::byte* MapArena(size_t bytes) {
  const size_t padded = bytes + kArenaBytes;
  void* map = mmap(nullptr, padded, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  std::byte* const start = static_cast<std::byte*>(map);
  const size_t head = RoundUp(Address(start), kArenaBytes) - Address(start);
  if (head != 0) munmap(start, head);
  if (head + bytes != padded) {
    munmap(start + head + bytes, padded - head - bytes);
  }
  madvise(start + head, bytes, MADV_HUGEPAGE);  // a wish; may fail
  return start + head;
}

// Makes a page read as zeros, and gives back the OS pages that lie in it. The
// edges that it shares with neighbours are cleared by hand.
void Scrub(std::byte* page, size_t bytes) {
  const uintptr_t begin = Address(page);
  const uintptr_t end = begin + bytes;
  const uintptr_t first = RoundUp(begin, kOsPageBytes);
  const uintptr_t last = end / kOsPageBytes * kOsPageBytes;
  if (first >= last ||
      madvise(page + (first - begin), last - first, MADV_DONTNEED) != 0) {
    std::memset(page, 0, bytes);
    return;
  }
  std::memset(page, 0, first - begin);
  std::memset(page + (last - begin), 0, end - last);
}

// Pages of one size. A page is free (on the list), live (references), or for
// a moment neither: while its last owner scrubs it.
struct Arena {
  std::byte* base = nullptr;
  size_t bytes = 0;
  size_t page_bytes = 0;
  std::vector<int32_t> references;  // [pages]
  std::vector<int32_t> free;        // indices; the next one at the back
  bool wants_huge = true;

  size_t pages() const { return references.size(); }
  std::byte* page(size_t i) const { return base + i * page_bytes; }
  size_t index(const std::byte* p) const {
    return (Address(p) - Address(base)) / page_bytes;
  }
};

}  // namespace

struct PagePool::Impl {
  // Arenas of one page size that have free pages, the fullest first: so that
  // the emptiest ones run empty.
  using Open = std::set<std::pair<size_t, Arena*>>;

  Arena* Find(const std::byte* page) {
    const auto it = arenas.find(Address(page) / kArenaBytes);
    DCHECK(it != arenas.end());
    return it->second.get();
  }

  int32_t& References(const std::byte* page) {
    Arena* const arena = Find(page);
    return arena->references[arena->index(page)];
  }

  Arena* AddArena(size_t page_bytes) {
    const size_t bytes =
        std::max(kArenaBytes, RoundUp(page_bytes, kOsPageBytes));
    const size_t pages = std::max<size_t>(1, kArenaBytes / page_bytes);
    if (static_cast<int64_t>(bytes) > most - mapped) return nullptr;
    std::byte* const base = MapArena(bytes);
    if (base == nullptr) return nullptr;
    auto arena = std::make_unique<Arena>();
    arena->base = base;
    arena->bytes = bytes;
    arena->page_bytes = page_bytes;
    arena->references.resize(pages);
    for (size_t i = pages; i-- > 0;) {
      arena->free.push_back(static_cast<int32_t>(i));
    }
    mapped += bytes;
    Arena* const result = arena.get();
    arenas.emplace(Address(base) / kArenaBytes, std::move(arena));
    List(result);
    return result;
  }

  // Moves an arena between the lists as `free` changes.
  void Unlist(Arena* arena) {
    const auto it = open.find(arena->page_bytes);
    if (it == open.end()) return;
    it->second.erase({arena->free.size(), arena});
    if (it->second.empty()) open.erase(it);
  }
  void List(Arena* arena) {
    if (arena->free.empty()) return;
    open[arena->page_bytes].emplace(arena->free.size(), arena);
  }

  std::mutex mutex;  // guards everything below
  std::unordered_map<uintptr_t, std::unique_ptr<Arena>> arenas;
  std::map<size_t, Open> open;  // by page size
  int64_t live = 0;
  int64_t mapped = 0;
  int64_t most = 0;  // that may be mapped
};

PagePool::PagePool(int64_t most_bytes) : impl_(std::make_unique<Impl>()) {
  impl_->most = most_bytes;
}

PagePool::~PagePool() {
  DCHECK(impl_->live == 0);
  for (const auto& [key, arena] : impl_->arenas) {
    munmap(arena->base, arena->bytes);
  }
}

std::byte* PagePool::Allocate(size_t bytes) {
  DCHECK(bytes > 0);
  bytes = RoundUp(bytes, 64);  // codes and scales of a few small entries
  std::lock_guard lock(impl_->mutex);
  auto found = impl_->open.find(bytes);
  Arena* const arena = found != impl_->open.end()
                           ? found->second.begin()->second
                           : impl_->AddArena(bytes);
  if (arena == nullptr) return nullptr;
  impl_->Unlist(arena);
  const int32_t index = arena->free.back();
  arena->free.pop_back();
  impl_->List(arena);
  arena->references[index] = 1;
  impl_->live += bytes;
  return arena->page(index);
}

void PagePool::AddReference(std::byte* page) {
  std::lock_guard lock(impl_->mutex);
  int32_t& references = impl_->References(page);
  DCHECK(references > 0);
  ++references;
}

bool PagePool::Unique(const std::byte* page) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->References(page) == 1;
}

void PagePool::Release(std::byte* page) {
  std::unique_lock lock(impl_->mutex);
  Arena* const arena = impl_->Find(page);
  const size_t index = arena->index(page);
  DCHECK(page == arena->page(index) && arena->references[index] > 0);
  if (--arena->references[index] > 0) return;
  impl_->live -= arena->page_bytes;

  if (arena->free.size() + 1 < arena->pages()) {
    const bool was_huge = std::exchange(arena->wants_huge, false);
    // The page is on no list yet, so nobody waits for these system calls.
    lock.unlock();
    // Or the kernel would fill the holes again to make a huge page whole.
    if (was_huge) madvise(arena->base, arena->bytes, MADV_NOHUGEPAGE);
    Scrub(page, arena->page_bytes);
    lock.lock();
  }
  impl_->Unlist(arena);
  arena->free.push_back(static_cast<int32_t>(index));
  if (arena->free.size() < arena->pages()) return impl_->List(arena);

  std::byte* const base = arena->base;
  const size_t bytes = arena->bytes;
  impl_->mapped -= bytes;
  impl_->arenas.erase(Address(base) / kArenaBytes);
  lock.unlock();  // nobody else knows the address now
  munmap(base, bytes);
}

int64_t PagePool::live_bytes() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->live;
}

int64_t PagePool::mapped_bytes() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->mapped;
}

}  // namespace pyramidkv
