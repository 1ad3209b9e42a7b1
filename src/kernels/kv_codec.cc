#include "kernels/kv_codec.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/cpu.h"
#include "kernels/channel_keys.h"
#include "kernels/kv_quant.h"

namespace pyramidkv {

uint16_t F16FromF32(float value) {
  uint32_t x = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (x >> 16) & 0x8000u;
  x &= 0x7fffffffu;
  if (x > 0x7f800000u) return sign | 0x7e00u | ((x >> 13) & 0x3ffu);
  if (x >= 0x47800000u) return sign | 0x7c00u;  // 65536 and more
  if (x < 0x38800000u) {
    // Subnormal half: one unit is 2^-24, as for floats in [0.5, 1), so that
    // the addition rounds where we need it.
    const float shifted = std::bit_cast<float>(x) + 0.5f;
    return sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  x += 0xfffu + ((x >> 13) & 1u);  // may carry into infinity, as it should
  return sign | ((x - 0x38000000u) >> 13);
}

float F32FromF16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t Bf16FromF32(float value) {
  const uint32_t x = std::bit_cast<uint32_t>(value);
  const bool nan = (x & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;
  // Rounding could carry a NaN into infinity or zero.
  return static_cast<uint16_t>(nan ? (x >> 16) | 0x40u : rounded);
}

float F32FromBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

namespace {

// Rows are converted in pieces that fit a small buffer on the stack.
constexpr int kChunk = 64;

// Elements from one channel pair of K, or one channel of V, to the next.
constexpr int kLanes = 16;
constexpr int kPairStride = 2 * kLanes;

// n % 8 == 0 in all conversions.
__attribute__((target("avx,f16c"))) void EncodeF16Hardware(const float* in,
                                                           int n,
                                                           uint16_t* out) {
  for (int i = 0; i < n; i += 8) {
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + i),
        _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  }
}

__attribute__((target("avx,f16c"))) void DecodeF16Hardware(const uint16_t* in,
                                                           int n, float* out) {
  for (int i = 0; i < n; i += 8) {
    const __m128i half =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
}

struct F32 {
  using Bits = uint32_t;
  static void Encode(const float* in, int n, Bits* out) {
    std::memcpy(out, in, n * sizeof(Bits));
  }
  static void Decode(const Bits* in, int n, float* out) {
    std::memcpy(out, in, n * sizeof(Bits));
  }
};

struct F16 {
  using Bits = uint16_t;
  static void Encode(const float* in, int n, Bits* out) {
    if (Cpu().f16c) return EncodeF16Hardware(in, n, out);
    for (int i = 0; i < n; ++i) out[i] = F16FromF32(in[i]);
  }
  static void Decode(const Bits* in, int n, float* out) {
    if (Cpu().f16c) return DecodeF16Hardware(in, n, out);
    for (int i = 0; i < n; ++i) out[i] = F32FromF16(in[i]);
  }
};

struct Bf16 {
  using Bits = uint16_t;
  static void Encode(const float* in, int n, Bits* out) {
    for (int i = 0; i < n; ++i) out[i] = Bf16FromF32(in[i]);
  }
  static void Decode(const Bits* in, int n, float* out) {
    for (int i = 0; i < n; ++i) out[i] = F32FromBf16(in[i]);
  }
};

// Calls f(F32{}), f(F16{}) or f(Bf16{}).
template <typename Function>
void WithCodec(Codec codec, Function f) {
  switch (codec) {
    case Codec::kF32:
      return f(F32{});
    case Codec::kF16:
      return f(F16{});
    case Codec::kBf16:
      return f(Bf16{});
    case Codec::kInt8:
    case Codec::kInt4:
    case Codec::kInt2:
      DCHECK(!"a codec without scales");
  }
}

// How one entry of K or V is spread over the page: runs of kRun elements,
// kStride elements apart. Offset: of the first one, in elements.
struct KeyLayout {
  static constexpr int kRun = 2;
  static constexpr int kStride = kPairStride;
  static size_t Offset(int head_dim, int slot) {
    return static_cast<size_t>(slot / kLanes) * kLanes * head_dim +
           slot % kLanes * 2;
  }
};

struct ValueLayout {
  static constexpr int kRun = 1;
  static constexpr int kStride = 2;
  static size_t Offset(int head_dim, int slot) {
    return static_cast<size_t>(slot / 2) * 2 * head_dim + slot % 2;
  }
};

// n elements in runs; strides in elements. One of the two is usually dense.
template <int kRun, typename Bits>
void CopyRuns(const Bits* from, int from_stride, int n, Bits* to,
              int to_stride) {
  for (int run = 0; run < n / kRun; ++run) {
    std::memcpy(to + run * to_stride, from + run * from_stride,
                kRun * sizeof(Bits));
  }
}

template <typename Layout, typename C>
void StoreRow(const float* row, int head_dim, int slot, std::byte* part) {
  using Bits = typename C::Bits;
  alignas(64) Bits bits[kChunk];
  Bits* to = reinterpret_cast<Bits*>(part) + Layout::Offset(head_dim, slot);
  for (int c = 0; c < head_dim; c += kChunk) {
    const int n = std::min(kChunk, head_dim - c);
    C::Encode(row + c, n, bits);
    CopyRuns<Layout::kRun>(bits, Layout::kRun, n,
                           to + c / Layout::kRun * Layout::kStride,
                           Layout::kStride);
  }
}

template <typename Layout, typename C>
void LoadRow(const std::byte* part, int head_dim, int slot, float* row) {
  using Bits = typename C::Bits;
  alignas(64) Bits bits[kChunk];
  const Bits* from =
      reinterpret_cast<const Bits*>(part) + Layout::Offset(head_dim, slot);
  for (int c = 0; c < head_dim; c += kChunk) {
    const int n = std::min(kChunk, head_dim - c);
    CopyRuns<Layout::kRun>(from + c / Layout::kRun * Layout::kStride,
                           Layout::kStride, n, bits, Layout::kRun);
    C::Decode(bits, n, row + c);
  }
}

template <typename Layout, typename Bits>
void CopyRow(int head_dim, const std::byte* from_part, int from_slot,
             std::byte* to_part, int to_slot) {
  CopyRuns<Layout::kRun>(
      reinterpret_cast<const Bits*>(from_part) +
          Layout::Offset(head_dim, from_slot),
      Layout::kStride, head_dim,
      reinterpret_cast<Bits*>(to_part) + Layout::Offset(head_dim, to_slot),
      Layout::kStride);
}

QuantHalf KeyHalf(const PageFormat& f) {
  return {f.k, /*is_k=*/true, f.head_dim, f.entries};
}
QuantHalf ValueHalf(const PageFormat& f) {
  return {f.v, /*is_k=*/false, f.head_dim, f.entries};
}

void CheckSlot(const PageFormat& format, int slot) {
  DCHECK(format.head_dim > 0 && format.head_dim % 8 == 0);
  DCHECK(format.entries > 0 && format.entries % kLanes == 0 &&
         format.entries <= kPageEntries);
  DCHECK(slot >= 0 && slot < format.entries);
}

}  // namespace

void StoreEntry(const PageFormat& format, std::byte* page, int slot,
                const float* k, const float* v, const Rounding& rounding) {
  CheckSlot(format, slot);
  const int d = format.head_dim;
  std::byte* const v_half = page + format.k_bytes();
  if (format.channel || k == nullptr) {
    // Keys by channel are written as a group.
  } else if (IsQuantized(format.k)) {
    StoreQuantized(KeyHalf(format), k, slot, rounding, page);
  } else {
    WithCodec(format.k,
              [&]<typename C>(C) { StoreRow<KeyLayout, C>(k, d, slot, page); });
  }
  if (v == nullptr) return;
  if (IsQuantized(format.v)) {
    StoreQuantized(ValueHalf(format), v, slot, rounding, v_half);
  } else {
    WithCodec(format.v, [&]<typename C>(C) {
      StoreRow<ValueLayout, C>(v, d, slot, v_half);
    });
  }
}

void LoadEntry(const PageFormat& format, const std::byte* page, int slot,
               float* k, float* v, const float* key_rounding) {
  CheckSlot(format, slot);
  const int d = format.head_dim;
  const std::byte* const v_half = page + format.k_bytes();
  if (k != nullptr && format.channel) {
    LoadChannelKey(format, page, slot, k);
  } else if (k != nullptr && IsQuantized(format.k)) {
    LoadQuantized(KeyHalf(format), page, slot, key_rounding, k);
  } else if (k != nullptr) {
    WithCodec(format.k,
              [&]<typename C>(C) { LoadRow<KeyLayout, C>(page, d, slot, k); });
  }
  if (v != nullptr && IsQuantized(format.v)) {
    LoadQuantized(ValueHalf(format), v_half, slot, nullptr, v);
  } else if (v != nullptr) {
    WithCodec(format.v, [&]<typename C>(C) {
      LoadRow<ValueLayout, C>(v_half, d, slot, v);
    });
  }
}

void CopyEntry(const PageFormat& format, std::byte* to_page, int to_slot,
               const std::byte* from_page, int from_slot) {
  CheckSlot(format, to_slot);
  CheckSlot(format, from_slot);
  const int d = format.head_dim;
  const size_t v_offset = format.k_bytes();
  if (format.channel) {
    // A key's code means something in its group alone.
  } else if (IsQuantized(format.k)) {
    CopyQuantized(KeyHalf(format), from_page, from_slot, to_page, to_slot);
  } else {
    WithCodec(format.k, [&]<typename C>(C) {
      CopyRow<KeyLayout, typename C::Bits>(d, from_page, from_slot, to_page,
                                           to_slot);
    });
  }
  if (IsQuantized(format.v)) {
    CopyQuantized(ValueHalf(format), from_page + v_offset, from_slot,
                  to_page + v_offset, to_slot);
  } else {
    WithCodec(format.v, [&]<typename C>(C) {
      CopyRow<ValueLayout, typename C::Bits>(d, from_page + v_offset, from_slot,
                                             to_page + v_offset, to_slot);
    });
  }
}

}  // namespace pyramidkv
