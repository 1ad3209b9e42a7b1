// How one entry's K and V lie in a page, and the conversions in and out.
//
// A page holds so many entries of one KV head: first all K, then all V.
//   K [entries / 16][head_dim / 2][16][2]   keys in lanes, channel pairs
//   V [entries / 2][head_dim][2]            channels in lanes, entry pairs
// The pairs are what a bf16 dot product multiplies; the other codecs use the
// same order, so one set of loops serves all. Bytes of a page:
//   entries * head_dim * (CodecBits(k) + CodecBits(v)) / 8
// and 2 for the scale of each group of 32 channels where it is quantised.
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_KV_CODEC_H_
#define PYRAMIDKV_KERNELS_KV_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace pyramidkv {

inline constexpr int kPageEntries = 64;  // of the cache; the most there are

// Quantised ones: kernels/kv_quant.h has their layout.
enum class Codec : uint8_t { kF32, kF16, kBf16, kInt8, kInt4, kInt2 };

// All that tells a codec from another but its arithmetic. Switches over codecs
// have no default, so the compiler finds what a new row needs.
struct CodecTraits {
  Codec codec;
  std::string_view name;  // in cache specs
  int bits;               // of a value
  bool quantized;         // groups of channels have a scale
  float zero;             // the code of 0; a value is (code - zero) * scale
  bool of_keys;           // K may be stored so; V always
};
inline constexpr CodecTraits kCodecTraits[] = {
    {Codec::kF32, "f32", 32, false, 0.0f, true},
    {Codec::kF16, "f16", 16, false, 0.0f, true},
    {Codec::kBf16, "bf16", 16, false, 0.0f, true},
    {Codec::kInt8, "int8", 8, true, 128.0f, true},
    {Codec::kInt4, "int4", 4, true, 8.0f, true},
    {Codec::kInt2, "int2", 2, true, 1.5f, false},
};
constexpr const CodecTraits& TraitsOf(Codec c) {
  return kCodecTraits[static_cast<int>(c)];
}
static_assert([] {
  for (int i = 0; i < int{std::size(kCodecTraits)}; ++i) {
    if (static_cast<int>(kCodecTraits[i].codec) != i) return false;
  }
  return true;
}());

constexpr bool IsQuantized(Codec c) { return TraitsOf(c).quantized; }
constexpr int CodecBits(Codec c) { return TraitsOf(c).bits; }
// REQUIRES: not quantised.
constexpr size_t CodecBytes(Codec c) { return CodecBits(c) / 8; }

// Entries whose keys share a scale by channel (PageFormat::channel).
inline constexpr int kChannelGroup = 32;
// Channels that share a scale; the last group of a row may be shorter.
inline constexpr int kQuantGroup = 32;
constexpr int QuantGroups(int head_dim) {
  return (head_dim + kQuantGroup - 1) / kQuantGroup;
}
// REQUIRES: quantised.
constexpr float QuantZero(Codec c) { return TraitsOf(c).zero; }
// Bytes of a page's codes of K or V; the scales lie after them.
constexpr size_t QuantCodeBytes(Codec c, int head_dim, int entries) {
  return size_t(entries) * head_dim * CodecBits(c) / 8;
}

// Shape of a page. REQUIRES: head_dim % 8 == 0; entries % 16 == 0 and at most
// kPageEntries: 16 where a block is to be small, as on disk.
struct PageFormat {
  int head_dim = 0;
  Codec k = Codec::kF16;
  Codec v = Codec::kF16;
  int entries = kPageEntries;
  // K is quantised by channel (kernels/channel_keys.h). REQUIRES: K of 8 or 4
  // bits; entries % kChannelGroup == 0.
  bool channel = false;

  size_t k_bytes() const {
    return channel ? QuantCodeBytes(k, head_dim, entries) +
                         size_t(entries) / kChannelGroup * head_dim * 4
                   : HalfBytes(k);
  }
  size_t v_bytes() const { return HalfBytes(v); }
  size_t page_bytes() const { return k_bytes() + v_bytes(); }

 private:
  size_t HalfBytes(Codec c) const {
    const size_t scales =
        IsQuantized(c) ? size_t(2) * QuantGroups(head_dim) : 0;
    return QuantCodeBytes(c, head_dim, entries) + entries * scales;
  }
};

// How quantised entries are rounded alike.
struct Rounding {
  // [2, head_dim] (kernels/key_rounding.h), the same for all keys of a page;
  // null: none.
  const float* keys = nullptr;
  // For all groups of K and of V; 0: each group has a scale of its own.
  float scale_k = 0, scale_v = 0;
};

// Writes one entry into slot [0, format.entries) of a page, rounding to
// nearest even. k, v: [head_dim]; null: that one stays as it is. Keys by
// channel are left out: StoreKeyGroup writes them.
void StoreEntry(const PageFormat& format, std::byte* page, int slot,
                const float* k, const float* v, const Rounding& rounding = {});

// Reads one entry back as f32. k, v: [head_dim]; either may be null.
void LoadEntry(const PageFormat& format, const std::byte* page, int slot,
               float* k, float* v, const float* key_rounding = nullptr);

// Copies the stored bits of one entry, of V alone where K is by channel. The
// pages may be the same.
void CopyEntry(const PageFormat& format, std::byte* to_page, int to_slot,
               const std::byte* from_page, int from_slot);

// One value as the codecs round it (to nearest even; a NaN stays one, made
// quiet as the hardware does). The fallback where there is no F16C.
uint16_t F16FromF32(float value);
float F32FromF16(uint16_t half);
uint16_t Bf16FromF32(float value);
float F32FromBf16(uint16_t bits);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KV_CODEC_H_
