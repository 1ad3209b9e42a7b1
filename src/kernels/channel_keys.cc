#include "kernels/channel_keys.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/key_words.h"

namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;
QuantHalf KeyHalf(const PageFormat& f) {
  return {f.k, /*is_k=*/true, f.head_dim, f.entries};
}

}  // namespace

ChannelScale QuantizeChannel(int bits, const float* x, int n, size_t stride,
                             uint8_t* codes) {
  float low = kLargestHalf, high = -kLargestHalf;
  bool nan = false;
  for (int i = 0; i < n; ++i) {
    const float v = std::clamp(x[i * stride], -kLargestHalf, kLargestHalf);
    nan = nan || std::isnan(v);
    low = std::min(low, v);
    high = std::max(high, v);
  }
  ChannelScale to;
  std::fill_n(codes, n, uint8_t{0});
  if (nan) {
    to.scale = to.low = F16FromF32(std::nanf(""));
    return to;
  }
  const auto most = static_cast<float>((1 << bits) - 1);
  to.low = F16FromF32(low);
  low = F32FromF16(to.low);
  to.scale = F16FromF32((high - low) / most);
  const float scale = F32FromF16(to.scale);
  if (!(scale > 0)) {
    to.scale = 0;
    return to;
  }
  for (int i = 0; i < n; ++i) {
    const float v = std::clamp(x[i * stride], -kLargestHalf, kLargestHalf);
    codes[i] = static_cast<uint8_t>(
        std::clamp(std::nearbyint((v - low) / scale), 0.0f, most));
  }
  return to;
}

void StoreKeyGroup(const PageFormat& format, int group, int count,
                   const float* k, std::byte* page) {
  DCHECK(format.channel && count > 0 && count <= kChannelGroup);
  const QuantHalf shape = KeyHalf(format);
  const int bits = CodecBits(format.k), d = format.head_dim;
  const int per_word = 32 / bits, first = group * kChannelGroup;
  auto* const scales =
      const_cast<uint16_t*>(ChannelScales(format, page, group));
  uint8_t codes[8][kChannelGroup] = {};  // of the channels of a word
  for (int c = 0; c < d; c += per_word) {
    for (int i = 0; i < per_word; ++i) {
      const ChannelScale s =
          QuantizeChannel(bits, k + c + i, count, d, codes[i]);
      scales[c + i] = s.scale;
      scales[d + c + i] = s.low;
    }
    for (int e = 0; e < kChannelGroup; ++e) {
      int32_t key[8];
      for (int i = 0; i < per_word; ++i) key[i] = codes[i][e];
      PackKeys(shape, key, c, per_word, first + e, page);
    }
  }
}

void LoadChannelKey(const PageFormat& format, const std::byte* page, int slot,
                    float* k) {
  const QuantHalf shape = KeyHalf(format);
  const int d = format.head_dim;
  const size_t words = KeyWords(shape, slot);
  const uint16_t* const scales =
      ChannelScales(format, page, slot / kChannelGroup);
  for (int c = 0; c < d; c += 4) {
    _mm_storeu_ps(k + c, _mm_cvtepi32_ps(UnpackKeys(shape, page, words, c)));
  }
  for (int c = 0; c < d; ++c) {
    k[c] = F32FromF16(scales[d + c]) + k[c] * F32FromF16(scales[c]);
  }
}

}  // namespace pyramidkv
