// Where the codes of quantised keys lie in the K half of a page: for
// kernels/kv_quant.h, which says how, and kernels/channel_keys.h.

#ifndef PYRAMIDKV_KERNELS_KEY_WORDS_H_
#define PYRAMIDKV_KERNELS_KEY_WORDS_H_

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kv_quant.h"

namespace pyramidkv {

inline constexpr int kKeyLanes = 16;  // keys side by side

// A slot of K has words of its own: the first one's byte; the others follow
// at kKeyStride.
inline constexpr int kKeyStride = 4 * kKeyLanes;
inline size_t KeyWords(const QuantHalf& shape, int slot) {
  const int words = shape.head_dim * CodecBits(shape.codec) / 32;
  return (size_t(slot / kKeyLanes) * words * kKeyLanes + slot % kKeyLanes) * 4;
}

// Codes of channels [c, c + n) into the words of a slot of K.
inline void PackKeys(const QuantHalf& shape, const int32_t* codes, int c, int n,
                     int slot, std::byte* half) {
  const int bits = CodecBits(shape.codec), per_word = 32 / bits;
  std::byte* to =
      half + KeyWords(shape, slot) + size_t(c / per_word) * kKeyStride;
  for (int i = 0; i < n; i += per_word, to += kKeyStride) {
    uint32_t word = 0;
    for (int j = 0; j < per_word; ++j) {
      word |= static_cast<uint32_t>(codes[i + j])
              << (8 * (j % 4) + bits * (j / 4));
    }
    std::memcpy(to, &word, sizeof(word));
  }
}

// Four channels from c on, c % 4 == 0, of the slot with its words at `first`.
inline __m128i UnpackKeys(const QuantHalf& shape, const std::byte* half,
                          size_t first, int c) {
  const int bits = CodecBits(shape.codec), per_word = 32 / bits;
  uint32_t word;
  std::memcpy(&word, half + first + size_t(c / per_word) * kKeyStride,
              sizeof(word));
  if (bits == 4) word = (word >> c % 8) & 0x0f0f0f0fu;  // c % 8 is 0 or 4
  const __m128i zero = _mm_setzero_si128();
  const __m128i bytes = _mm_cvtsi32_si128(static_cast<int>(word));
  return _mm_unpacklo_epi16(_mm_unpacklo_epi8(bytes, zero), zero);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KEY_WORDS_H_
