#include "kernels/channel_keys.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;
constexpr int kLanes = 16;

// The byte of a slot's word with channel c.
size_t WordAt(const PageFormat& f, int slot, int c) {
  const int per_word = 32 / CodecBits(f.k);
  const size_t words = f.head_dim / per_word;
  return ((slot / kLanes * words + c / per_word) * kLanes + slot % kLanes) * 4;
}

int ShiftOf(int bits, int c) {
  const int within = c % (32 / bits);
  return 8 * (within % 4) + bits * (within / 4);
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
  const int bits = CodecBits(format.k), d = format.head_dim;
  const int first = group * kChannelGroup;
  auto* const scales =
      const_cast<uint16_t*>(ChannelScales(format, page, group));
  uint8_t codes[32][kChannelGroup] = {};  // of the channels of a word
  for (int c = 0; c < d; c += 32 / bits) {
    for (int i = 0; i < 32 / bits; ++i) {
      const ChannelScale s =
          QuantizeChannel(bits, k + c + i, count, d, codes[i]);
      scales[c + i] = s.scale;
      scales[d + c + i] = s.low;
    }
    for (int e = 0; e < kChannelGroup; ++e) {
      uint32_t word = 0;
      for (int i = 0; i < 32 / bits; ++i) {
        word |= uint32_t{codes[i][e]} << ShiftOf(bits, i);
      }
      std::memcpy(page + WordAt(format, first + e, c), &word, sizeof(word));
    }
  }
}

void LoadChannelKey(const PageFormat& format, const std::byte* page, int slot,
                    float* k) {
  const int bits = CodecBits(format.k), d = format.head_dim;
  const uint16_t* const scales =
      ChannelScales(format, page, slot / kChannelGroup);
  for (int c = 0; c < d; ++c) {
    uint32_t word;
    std::memcpy(&word, page + WordAt(format, slot, c), sizeof(word));
    const uint32_t code = word >> ShiftOf(bits, c) & ((1u << bits) - 1);
    k[c] = F32FromF16(scales[d + c]) +
           static_cast<float>(code) * F32FromF16(scales[c]);
  }
}

}  // namespace pyramidkv
