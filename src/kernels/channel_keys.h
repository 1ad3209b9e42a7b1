// Quantised keys with a scale and a lowest value for each channel of 32 entries
// (PageFormat::channel): keys have channels that are large in all entries,
// which then cost the others nothing.
//
// They are not rotated, and 32 entries are written at once: one alone cannot be
// stored, copied or left out. Codes lie as in kernels/kv_quant.h; after them
// for each group of entries f16 scales [head_dim], then f16 lowest values
// [head_dim].
// Source: KIVI (arXiv 2402.02750), section 3.2. Departure: groups of 32 entries
// at 4 or 8 bits.

#ifndef PYRAMIDKV_KERNELS_CHANNEL_KEYS_H_
#define PYRAMIDKV_KERNELS_CHANNEL_KEYS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kv_codec.h"

namespace pyramidkv {

// A scale and a lowest value, f16.
struct ChannelScale {
  uint16_t scale = 0;
  uint16_t low = 0;
};

// x: n values, `stride` apart; to: n codes of so many bits. Values are
// low + code * scale, rounded to nearest even. One value alone, or n equal
// ones, are low. A NaN makes all NaN; what is beyond f16 is cut off there.
ChannelScale QuantizeChannel(int bits, const float* x, int n, size_t stride,
                             uint8_t* codes);

// Keys k [count, head_dim] into the slots from kChannelGroup * group on of a
// page; all of a group's slots have codes afterwards. count: up to
// kChannelGroup. REQUIRES: format.channel.
void StoreKeyGroup(const PageFormat& format, int group, int count,
                   const float* k, std::byte* page);

void LoadChannelKey(const PageFormat& format, const std::byte* page, int slot,
                    float* k);

// Where a group's scales are; its lowest values are head_dim further.
inline const uint16_t* ChannelScales(const PageFormat& format,
                                     const std::byte* page, int group) {
  return reinterpret_cast<const uint16_t*>(
             page + QuantCodeBytes(format.k, format.head_dim, format.entries)) +
         size_t{2} * group * format.head_dim;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_CHANNEL_KEYS_H_
