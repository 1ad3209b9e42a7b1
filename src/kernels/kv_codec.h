// How one entry's K and V lie in a page, and the conversions in and out.
//
// A page holds kPageEntries entries of one KV head: first all K, then all V.
//   K [kPageEntries / 16][head_dim / 2][16][2]   keys in lanes, channel pairs
//   V [kPageEntries / 2][head_dim][2]            channels in lanes, entry pairs
// The pairs are what a bf16 dot product multiplies; the other codecs use the
// same order, so one set of loops serves all. Bytes of a page:
//   kPageEntries * head_dim * (CodecBytes(k) + CodecBytes(v))
//
// No errors; preconditions are stated. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_KV_CODEC_H_
#define PYRAMIDKV_KERNELS_KV_CODEC_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kPageEntries = 64;

enum class Codec : uint8_t { kF32, kF16, kBf16 };

constexpr size_t CodecBytes(Codec c) { return c == Codec::kF32 ? 4 : 2; }

// Shape of the entries in a page. REQUIRES: head_dim % 8 == 0.
struct PageFormat {
  int head_dim = 0;
  Codec k = Codec::kF16;
  Codec v = Codec::kF16;

  size_t k_bytes() const { return kPageEntries * head_dim * CodecBytes(k); }
  size_t v_bytes() const { return kPageEntries * head_dim * CodecBytes(v); }
  size_t page_bytes() const { return k_bytes() + v_bytes(); }
};

// Writes one entry into slot [0, kPageEntries) of a page, rounding to nearest
// even. k, v: [head_dim].
void StoreEntry(const PageFormat& format, std::byte* page, int slot,
                const float* k, const float* v);

// Reads one entry back as f32. k, v: [head_dim]; either may be null.
void LoadEntry(const PageFormat& format, const std::byte* page, int slot,
               float* k, float* v);

// Copies the stored bits of one entry. The pages may be the same.
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
