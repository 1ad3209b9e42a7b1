#include "kernels/key_words.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

// By hand: channel i of a word is at bits * (i / 4) of its byte i % 4, and a
// slot's words are 64 bytes apart.
TEST(KeyWords, LieAsTheHeaderSays) {
  const QuantHalf shape = {Codec::kInt4, true, 16, 32};
  std::vector<std::byte> half(QuantCodeBytes(Codec::kInt4, 16, 32));
  const int32_t codes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  PackKeys(shape, codes, 0, 16, 17, half.data());
  // Slot 17 is the second one of the second 16, which have 2 words each.
  const size_t first = 16 * 2 * 4 + 4;
  EXPECT_EQ(KeyWords(shape, 17), first);
  const std::vector<int> want = {0x51, 0x62, 0x73, 0x84};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(std::to_integer<int>(half[first + i]), want[i]);
  }
  EXPECT_EQ(std::to_integer<int>(half[first + 64]), 0xd9);
}

TEST(KeyWords, UnpackWhatWasPacked) {
  std::mt19937 random(1);
  for (Codec codec : {Codec::kInt8, Codec::kInt4}) {
    for (int d : {8, 40, 64, 128}) {
      const QuantHalf shape = {codec, true, d, kPageEntries};
      std::vector<std::byte> half(QuantCodeBytes(codec, d, kPageEntries));
      std::vector<int32_t> codes(size_t{kPageEntries} * d);
      for (int32_t& code : codes) {
        code = static_cast<int32_t>(random() % (1u << CodecBits(codec)));
      }
      for (int slot = 0; slot < kPageEntries; ++slot) {
        PackKeys(shape, &codes[size_t(slot) * d], 0, d, slot, half.data());
      }
      for (int slot = 0; slot < kPageEntries; ++slot) {
        for (int c = 0; c < d; c += 4) {
          alignas(16) int32_t got[4];
          _mm_store_si128(
              reinterpret_cast<__m128i*>(got),
              UnpackKeys(shape, half.data(), KeyWords(shape, slot), c));
          for (int i = 0; i < 4; ++i) {
            ASSERT_EQ(got[i], codes[size_t(slot) * d + c + i]);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyramidkv
