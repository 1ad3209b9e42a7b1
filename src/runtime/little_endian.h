// Numbers in stored files: little-endian, of explicit widths.

#ifndef PYRAMIDKV_RUNTIME_LITTLE_ENDIAN_H_
#define PYRAMIDKV_RUNTIME_LITTLE_ENDIAN_H_

#include <bit>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace pyramidkv {

static_assert(std::endian::native == std::endian::little,
              "stored files are copied as they lie in memory");

template <typename T>
void StoreLittle(T value, std::byte* to) {
  static_assert(std::is_arithmetic_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

template <typename T>
T LoadLittle(const std::byte* from) {
  static_assert(std::is_arithmetic_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LITTLE_ENDIAN_H_
