// Memory of many megabytes that is read from end to end: mapped for this
// purpose, with huge pages asked for (fewer misses of the TLB).

#ifndef PYRAMIDKV_BASE_HUGE_BUFFER_H_
#define PYRAMIDKV_BASE_HUGE_BUFFER_H_

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <utility>

namespace pyramidkv {

class HugeBuffer {
 public:
  HugeBuffer() = default;
  // Zeroed; pages that nobody touches cost nothing. Throws std::bad_alloc.
  explicit HugeBuffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(data);
    madvise(data_, bytes, MADV_HUGEPAGE);  // a wish
  }
  ~HugeBuffer() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;
  HugeBuffer(HugeBuffer&& other) noexcept { *this = std::move(other); }
  HugeBuffer& operator=(HugeBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_HUGE_BUFFER_H_
