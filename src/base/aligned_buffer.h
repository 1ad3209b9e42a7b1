// A growable array of plain values, aligned for SIMD and never initialised.
// Like a vector without the zero fill: prefill scratch of many megabytes is
// written before it is read, and pages that nobody touches cost no RSS.

#ifndef PYRAMIDKV_BASE_ALIGNED_BUFFER_H_
#define PYRAMIDKV_BASE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace pyramidkv {

inline constexpr size_t kAlignment = 64;  // a cache line, one AVX-512 vector

template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size) { Resize(size); }

  // Makes room for `size` values; the contents are undefined afterwards.
  // Grows only, so that a loop that calls it with one size allocates once.
  void Resize(size_t size) {
    if (size > capacity_) {
      const size_t bytes =
          (size * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
      data_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      capacity_ = size;
    }
    size_ = size;
  }

  // Gives the memory back.
  void Free() {
    data_.reset();
    capacity_ = size_ = 0;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }
  std::span<T> span() { return {data(), size_}; }
  std::span<const T> span() const { return {data(), size_}; }

 private:
  struct Deleter {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Deleter> data_;
  size_t capacity_ = 0;
  size_t size_ = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_ALIGNED_BUFFER_H_
