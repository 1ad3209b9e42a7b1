#include "kernels/kv_quant.h"

#include <emmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "base/check.h"

namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;
constexpr int kMaxRotation = 64;
constexpr int kChunk = 64;  // channels rotated or quantised at a time
constexpr int kLanes = 16;
constexpr int kSign = std::numeric_limits<int>::min();  // the bit of a float

int RotationBlock(int head_dim) {
  return std::min(head_dim & -head_dim, kMaxRotation);
}

float RoundedScale(float scale) {
  return F32FromF16(F16FromF32(std::clamp(scale, -kLargestHalf, kLargestHalf)));
}

// Codes of n values at a scale; their squared error.
float Encode(Codec codec, float scale, const float* x, int n, uint8_t* codes) {
  const float zero = QuantZero(codec);
  const auto most = static_cast<float>((1 << CodecBits(codec)) - 1);
  // A scale that is 0 or NaN decides the values, whatever their codes.
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  float error = 0;
  for (int i = 0; i < n; ++i) {
    const float code =
        std::clamp(std::floor(x[i] * inverse + zero + 0.5f), 0.0f, most);
    codes[i] = code >= 0 ? static_cast<uint8_t>(code) : 0;  // or NaN
    const float off = (float(codes[i]) - zero) * scale - x[i];
    error += off * off;
  }
  return error;
}

// The largest value over the scale, to try: a few that are too large for a
// small scale do less harm than coarse steps for all.
std::span<const float> Divisors(Codec codec) {
  static constexpr float k8[] = {-127.0f};
  static constexpr float k4[] = {-8.0f, -7.6f, -8.5f, -9.0f, -9.6f};
  static constexpr float k2[] = {1.5f, 1.8f, 2.1f, 2.4f};
  if (codec == Codec::kInt8) return k8;
  if (codec == Codec::kInt4) return k4;
  return k2;
}

// One group; the scale as f16 bits.
uint16_t QuantizeGroup(Codec codec, const float* x, int n, uint8_t* codes) {
  float largest = 0;  // with its sign: the codes reach further below zero
  bool nan = false;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
    nan = nan || std::isnan(x[i]);
  }
  if (nan) {
    std::fill(codes, codes + n, uint8_t{0});
    return F16FromF32(std::nanf(""));
  }
  float best_scale = 0, best = 0;
  uint8_t tried[kQuantGroup];
  bool first = true;
  for (float divisor : Divisors(codec)) {
    const float scale = RoundedScale(largest / divisor);
    const float error = Encode(codec, scale, x, n, tried);
    if (!first && !(error < best)) continue;
    first = false;
    best = error;
    best_scale = scale;
    std::copy(tried, tried + n, codes);
  }
  return F16FromF32(best_scale);
}

// Byte and shift of one value.
struct Place {
  size_t byte;
  int shift;
};
Place PlaceOf(int bits, bool is_k, int head_dim, int slot, int channel) {
  const int per_word = 32 / bits;
  const int along = is_k ? channel : slot;
  const int word = along / per_word, within = along % per_word;
  const size_t at =
      is_k ? (size_t(slot / kLanes) * (head_dim / per_word) + word) * kLanes +
                 slot % kLanes
           : size_t(word) * head_dim + channel;
  return {at * 4 + within % 4, bits * (within / 4)};
}

void SetCode(int bits, const Place& place, uint8_t code, std::byte* half) {
  const auto mask = static_cast<uint8_t>(((1 << bits) - 1) << place.shift);
  const auto old = static_cast<uint8_t>(half[place.byte]);
  half[place.byte] =
      static_cast<std::byte>((old & ~mask) | code << place.shift);
}

uint8_t GetCode(int bits, const Place& place, const std::byte* half) {
  return static_cast<uint8_t>(half[place.byte]) >> place.shift &
         ((1 << bits) - 1);
}

// Where the scale of a group lies in the half.
size_t ScaleAt(const QuantHalf& shape, int group, int slot) {
  return QuantCodeBytes(shape.codec, shape.head_dim, shape.entries) +
         sizeof(uint16_t) * (size_t(group) * shape.entries + slot);
}

}  // namespace

void RotateChannels(int head_dim, float* x) {
  const int block = RotationBlock(head_dim);
  const __m128 norm = _mm_set1_ps(1.0f / std::sqrt(static_cast<float>(block)));
  const __m128 odd = _mm_castsi128_ps(_mm_setr_epi32(0, kSign, 0, kSign));
  const __m128 upper = _mm_castsi128_ps(_mm_setr_epi32(0, 0, kSign, kSign));
  for (float* b = x; b < x + head_dim; b += block) {
    for (int i = 0; i < block; i += 4) {
      __m128 v = _mm_loadu_ps(b + i);
      v = _mm_add_ps(
          _mm_shuffle_ps(v, v, _MM_SHUFFLE(2, 2, 0, 0)),
          _mm_xor_ps(_mm_shuffle_ps(v, v, _MM_SHUFFLE(3, 3, 1, 1)), odd));
      v = _mm_add_ps(_mm_movelh_ps(v, v),
                     _mm_xor_ps(_mm_movehl_ps(v, v), upper));
      _mm_storeu_ps(b + i, v);
    }
    for (int half = 4; half < block; half *= 2) {
      // The last step also scales.
      const __m128 factor = 2 * half < block ? _mm_set1_ps(1.0f) : norm;
      for (int i = 0; i < block; i += 2 * half) {
        for (int j = i; j < i + half; j += 4) {
          const __m128 low = _mm_loadu_ps(b + j);
          const __m128 high = _mm_loadu_ps(b + j + half);
          _mm_storeu_ps(b + j, _mm_mul_ps(_mm_add_ps(low, high), factor));
          _mm_storeu_ps(b + j + half,
                        _mm_mul_ps(_mm_sub_ps(low, high), factor));
        }
      }
    }
  }
}

void StoreQuantized(const QuantHalf& shape, const float* row, int slot,
                    std::byte* half) {
  const auto [codec, is_k, head_dim, entries] = shape;
  DCHECK(IsQuantized(codec) && !(is_k && codec == Codec::kInt2));
  const int bits = CodecBits(codec);
  const int chunk = head_dim % kChunk == 0 ? kChunk : RotationBlock(head_dim);
  // Groups are cut at multiples of 32 channels, rotations at their blocks.
  const int step = std::max(chunk, kQuantGroup);
  alignas(64) float x[kChunk];
  uint8_t codes[kQuantGroup];
  for (int c = 0; c < head_dim; c += step) {
    const int n = std::min(step, head_dim - c);
    for (int i = 0; i < n; ++i) {
      x[i] = std::clamp(row[c + i], -kLargestHalf, kLargestHalf);
    }
    for (int i = 0; i < n; i += chunk) RotateChannels(chunk, x + i);
    for (int i = 0; i < n; i += kQuantGroup) {
      const int in_group = std::min(kQuantGroup, n - i);
      const uint16_t scale = QuantizeGroup(codec, x + i, in_group, codes);
      std::memcpy(half + ScaleAt(shape, (c + i) / kQuantGroup, slot), &scale,
                  sizeof(scale));
      for (int j = 0; j < in_group; ++j) {
        SetCode(bits, PlaceOf(bits, is_k, head_dim, slot, c + i + j), codes[j],
                half);
      }
    }
  }
}

void LoadQuantized(const QuantHalf& shape, const std::byte* half, int slot,
                   float* row) {
  const auto [codec, is_k, head_dim, entries] = shape;
  const int bits = CodecBits(codec);
  float scale = 0;
  for (int c = 0; c < head_dim; ++c) {
    if (c % kQuantGroup == 0) {
      uint16_t f16;
      std::memcpy(&f16, half + ScaleAt(shape, c / kQuantGroup, slot),
                  sizeof(f16));
      scale = F32FromF16(f16);
    }
    const uint8_t code =
        GetCode(bits, PlaceOf(bits, is_k, head_dim, slot, c), half);
    row[c] = (float(code) - QuantZero(codec)) * scale;
  }
  RotateChannels(head_dim, row);
}

void CopyQuantized(const QuantHalf& shape, const std::byte* from, int from_slot,
                   std::byte* to, int to_slot) {
  const auto [codec, is_k, head_dim, entries] = shape;
  const int bits = CodecBits(codec);
  for (int c = 0; c < head_dim; ++c) {
    const uint8_t code =
        GetCode(bits, PlaceOf(bits, is_k, head_dim, from_slot, c), from);
    SetCode(bits, PlaceOf(bits, is_k, head_dim, to_slot, c), code, to);
  }
  for (int g = 0; g < QuantGroups(head_dim); ++g) {
    std::memmove(to + ScaleAt(shape, g, to_slot),
                 from + ScaleAt(shape, g, from_slot), sizeof(uint16_t));
  }
}

}  // namespace pyramidkv
