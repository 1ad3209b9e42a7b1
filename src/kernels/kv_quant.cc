#include "kernels/kv_quant.h"

#include <emmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "base/check.h"
#include "kernels/key_rounding.h"
#include "kernels/key_words.h"

namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;
constexpr int kMaxRotation = 64;
constexpr int kChunk = 64;  // channels rotated or quantised at a time
constexpr int kSign = std::numeric_limits<int>::min();  // the bit of a float

float RoundedScale(float scale) {
  return F32FromF16(F16FromF32(std::clamp(scale, -kLargestHalf, kLargestHalf)));
}

// Codes of x at a scale, four at a time: floor(x / scale + zero + 1/2), kept
// within the codes that there are.
__m128i EncodeFour(__m128 x, __m128 inverse, __m128 zero, __m128 most) {
  const __m128 code =
      _mm_add_ps(_mm_add_ps(_mm_mul_ps(x, inverse), zero), _mm_set1_ps(0.5f));
  return _mm_cvttps_epi32(_mm_min_ps(_mm_max_ps(code, _mm_setzero_ps()), most));
}

__m128 MostCode(Codec codec) {
  return _mm_set1_ps(static_cast<float>((1 << CodecBits(codec)) - 1));
}
// A scale that is 0 decides the values, whatever their codes.
float Inverse(float scale) { return scale != 0 ? 1.0f / scale : 0.0f; }

// The squared errors of n values at four scales, each summed in order.
void ErrorsOfFour(Codec codec, const float* scales, const float* x, int n,
                  float* errors) {
  const __m128 scale = _mm_loadu_ps(scales);
  const __m128 inverse = _mm_setr_ps(Inverse(scales[0]), Inverse(scales[1]),
                                     Inverse(scales[2]), Inverse(scales[3]));
  const __m128 zero = _mm_set1_ps(QuantZero(codec)), most = MostCode(codec);
  __m128 sum = _mm_setzero_ps();
  for (int i = 0; i < n; ++i) {
    const __m128 value = _mm_set1_ps(x[i]);
    const __m128 code = _mm_cvtepi32_ps(EncodeFour(value, inverse, zero, most));
    const __m128 off =
        _mm_sub_ps(_mm_mul_ps(_mm_sub_ps(code, zero), scale), value);
    sum = _mm_add_ps(sum, _mm_mul_ps(off, off));
  }
  _mm_storeu_ps(errors, sum);
}

// The largest value over the scale, to try: a few that are too large for a
// small scale do less harm than coarse steps for all.
std::span<const float> Divisors(Codec codec) {
  static constexpr float k8[] = {-127.0f};
  static constexpr float k4[] = {-8.0f, -7.6f, -8.5f, -9.0f, -9.6f};
  static constexpr float k2[] = {1.5f, 1.8f, 2.1f, 2.4f};
  switch (codec) {
    case Codec::kInt8:
      return k8;
    case Codec::kInt4:
      return k4;
    case Codec::kInt2:
      return k2;
    case Codec::kF32:
    case Codec::kF16:
    case Codec::kBf16:
      break;
  }
  DCHECK(!"a quantised codec");
  return {};
}

// The first of the values that are largest, with its sign: the codes reach
// further below zero. NaN if there is one.
float LargestOf(const float* x, int n) {
  const __m128 sign = _mm_castsi128_ps(_mm_set1_epi32(kSign));
  __m128 most = _mm_setzero_ps(), nan = most;
  for (int i = 0; i < n; i += 4) {
    const __m128 v = _mm_loadu_ps(x + i);
    nan = _mm_or_ps(nan, _mm_cmpunord_ps(v, v));
    most = _mm_max_ps(most, _mm_andnot_ps(sign, v));
  }
  if (_mm_movemask_ps(nan) != 0) return std::nanf("");
  most = _mm_max_ps(most, _mm_shuffle_ps(most, most, _MM_SHUFFLE(1, 0, 3, 2)));
  most = _mm_max_ps(most, _mm_shuffle_ps(most, most, _MM_SHUFFLE(2, 3, 0, 1)));
  const float largest = _mm_cvtss_f32(most);
  const float* const at =
      std::find_if(x, x + n, [=](float v) { return std::fabs(v) == largest; });
  return *at;
}

// The scale of the least error; of equal ones, the first.
float BestScale(Codec codec, float largest, const float* x, int n) {
  constexpr int kMost = 8;  // divisors, in fours
  const std::span<const float> divisors = Divisors(codec);
  const int count = static_cast<int>(divisors.size());
  float scales[kMost], errors[kMost];
  for (int i = 0; i < kMost; ++i) {
    scales[i] = i < count ? RoundedScale(largest / divisors[i]) : scales[0];
  }
  if (count == 1) return scales[0];
  for (int i = 0; i < count; i += 4) {
    ErrorsOfFour(codec, scales + i, x, n, errors + i);
  }
  return scales[std::min_element(errors, errors + count) - errors];
}

// One group of n values, n % 4 == 0. Returns the scale, as f16 rounds it: the
// given one, or the best if that is 0.
float QuantizeGroup(Codec codec, const float* x, int n, float given,
                    int32_t* codes) {
  const float largest = LargestOf(x, n);
  if (std::isnan(largest)) {
    std::fill(codes, codes + n, 0);
    return std::nanf("");
  }
  const float scale =
      given != 0 ? RoundedScale(given) : BestScale(codec, largest, x, n);
  const __m128 inverse = _mm_set1_ps(Inverse(scale));
  const __m128 zero = _mm_set1_ps(QuantZero(codec)), most = MostCode(codec);
  for (int i = 0; i < n; i += 4) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i),
                     EncodeFour(_mm_loadu_ps(x + i), inverse, zero, most));
  }
  return scale;
}

// Codes of a block of rotated channels, `first` channels after the first one
// of scales[0], go to a neighbour where that lowers the weighted error: that
// of channel i is corrected by what the others leave. With e the errors, it is
// e' W e, W[i][j] = mixed[i ^ j]: both sides of diagonal weights are Hadamard
// matrices.
void RefineCodes(const float* mixed, int block, int first, const float* scales,
                 const float* x, int32_t* codes) {
  const float zero = QuantZero(Codec::kInt4);
  const auto scale = [&](int i) { return scales[(first + i) / kQuantGroup]; };
  // gradient = W e, by the transform of the weights.
  alignas(16) float weights[kChunk], gradient[kChunk];
  for (int i = 0; i < block; ++i) {
    weights[i] = mixed[i];
    gradient[i] = (static_cast<float>(codes[i]) - zero) * scale(i) - x[i];
    if (std::isnan(gradient[i])) return;
  }
  RotateChannels(block, weights);
  RotateChannels(block, gradient);
  const float norm = std::sqrt(static_cast<float>(block));
  for (int i = 0; i < block; ++i) gradient[i] *= weights[i] * norm;
  RotateChannels(block, gradient);
  // The four orders that a row of W has within four lanes.
  alignas(16) float order[4][kChunk];
  for (int b = 0; b < 4; ++b) {
    for (int i = 0; i < block; ++i) order[b][i] = mixed[i ^ b];
  }
  for (int i = 0; i < block; ++i) {
    const float s = scale(i), code = static_cast<float>(codes[i]);
    if (s == 0) continue;
    const float best =
        std::floor(std::clamp(code - gradient[i] / s, 0.0f, 15.0f) + 0.5f);
    if (best == code) continue;
    codes[i] = static_cast<int32_t>(best);
    const __m128 change = _mm_set1_ps((best - code) * s);
    for (int j = 0; j < block; j += 4) {
      const __m128 w = _mm_load_ps(order[i % 4] + ((i & ~3) ^ j));
      _mm_store_ps(gradient + j, _mm_add_ps(_mm_load_ps(gradient + j),
                                            _mm_mul_ps(change, w)));
    }
  }
}

__m128i Words(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

// A slot of V has the same bits of all words of a row.
struct ValueWords {
  ValueWords(const QuantHalf& shape, int slot) {
    const int bits = CodecBits(shape.codec);
    const int per_word = 32 / bits, within = slot % per_word;
    byte = size_t(slot / per_word) * shape.head_dim * 4;
    shift = _mm_cvtsi32_si128(8 * (within % 4) + bits * (within / 4));
    mask = _mm_set1_epi32((1 << bits) - 1);
  }
  __m128i Get(const std::byte* half, int channel) const {
    return _mm_and_si128(_mm_srl_epi32(Words(half + byte + 4 * channel), shift),
                         mask);
  }
  void Set(__m128i codes, int channel, std::byte* half) const {
    auto* at = reinterpret_cast<__m128i*>(half + byte + 4 * channel);
    const __m128i others =
        _mm_andnot_si128(_mm_sll_epi32(mask, shift), _mm_loadu_si128(at));
    _mm_storeu_si128(at, _mm_or_si128(others, _mm_sll_epi32(codes, shift)));
  }

  size_t byte;
  __m128i shift, mask;
};

// Where the scale of a group lies in the half.
size_t ScaleAt(const QuantHalf& shape, int group, int slot) {
  return QuantCodeBytes(shape.codec, shape.head_dim, shape.entries) +
         sizeof(uint16_t) * (size_t(group) * shape.entries + slot);
}

}  // namespace

int RotationBlock(int head_dim) {
  return std::min(head_dim & -head_dim, kMaxRotation);
}

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
                    const Rounding& rounding, std::byte* half) {
  const auto [codec, is_k, head_dim, entries] = shape;
  DCHECK(IsQuantized(codec) && (!is_k || TraitsOf(codec).of_keys));
  const float* const key_rounding = is_k ? rounding.keys : nullptr;
  const float given = is_k ? rounding.scale_k : rounding.scale_v;
  const int chunk = head_dim % kChunk == 0 ? kChunk : RotationBlock(head_dim);
  // Groups are cut at multiples of 32 channels, rotations at their blocks.
  const int step = std::max(chunk, kQuantGroup);
  alignas(64) float x[kChunk];
  alignas(64) int32_t codes[kChunk];
  float scales[kChunk / kQuantGroup];
  const ValueWords values(shape, slot);
  for (int c = 0; c < head_dim; c += step) {
    const int n = std::min(step, head_dim - c);
    for (int i = 0; i < n; ++i) {
      const float mean = key_rounding != nullptr ? key_rounding[c + i] : 0.0f;
      x[i] = std::clamp(row[c + i] - mean, -kLargestHalf, kLargestHalf);
    }
    for (int i = 0; i < n; i += chunk) RotateChannels(chunk, x + i);
    for (int i = 0; i < n; i += kQuantGroup) {
      scales[i / kQuantGroup] = QuantizeGroup(
          codec, x + i, std::min(kQuantGroup, n - i), given, codes + i);
    }
    if (key_rounding != nullptr && codec == Codec::kInt4) {
      const float* const mixed = key_rounding + head_dim + c;
      for (int i = 0; i < n; i += chunk) {
        RefineCodes(mixed + i, chunk, i, scales, x + i, codes + i);
      }
    }
    for (int i = 0; i < n; i += kQuantGroup) {
      const int in_group = std::min(kQuantGroup, n - i);
      const uint16_t scale = F16FromF32(scales[i / kQuantGroup]);
      std::memcpy(half + ScaleAt(shape, (c + i) / kQuantGroup, slot), &scale,
                  sizeof(scale));
      if (is_k) {
        PackKeys(shape, codes + i, c + i, in_group, slot, half);
        continue;
      }
      for (int j = i; j < i + in_group; j += 4) {
        values.Set(_mm_load_si128(reinterpret_cast<const __m128i*>(codes + j)),
                   c + j, half);
      }
    }
  }
}

void LoadQuantized(const QuantHalf& shape, const std::byte* half, int slot,
                   const float* key_rounding, float* row) {
  const ValueWords values(shape, slot);
  const size_t keys = KeyWords(shape, slot);
  const __m128 zero = _mm_set1_ps(QuantZero(shape.codec));
  __m128 scale = zero;
  for (int c = 0; c < shape.head_dim; c += 4) {
    if (c % kQuantGroup == 0) {
      uint16_t f16;
      std::memcpy(&f16, half + ScaleAt(shape, c / kQuantGroup, slot),
                  sizeof(f16));
      scale = _mm_set1_ps(F32FromF16(f16));
    }
    const __m128i codes =
        shape.is_k ? UnpackKeys(shape, half, keys, c) : values.Get(half, c);
    _mm_storeu_ps(row + c,
                  _mm_mul_ps(_mm_sub_ps(_mm_cvtepi32_ps(codes), zero), scale));
  }
  RotateChannels(shape.head_dim, row);
  if (key_rounding != nullptr) AddKeyMean(key_rounding, shape.head_dim, 1, row);
}

float LargestScale(Codec codec, int head_dim, const float* x, int rows,
                   size_t stride, const float* mean) {
  std::vector<float> row(head_dim);
  float largest = 0;
  for (int r = 0; r < rows; ++r, x += stride) {
    for (int i = 0; i < head_dim; ++i) {
      row[i] = x[i] - (mean != nullptr ? mean[i] : 0.0f);
    }
    RotateChannels(head_dim, row.data());
    for (float value : row) largest = std::max(largest, std::fabs(value));
  }
  const float codes =
      static_cast<float>((1 << CodecBits(codec)) - 1) - QuantZero(codec);
  const float scale = RoundedScale(largest / codes);
  return std::isfinite(scale) ? scale : 0.0f;
}

void CopyQuantized(const QuantHalf& shape, const std::byte* from, int from_slot,
                   std::byte* to, int to_slot) {
  if (shape.is_k) {
    const std::byte* at = from + KeyWords(shape, from_slot);
    std::byte* words = to + KeyWords(shape, to_slot);
    const int per_word = 32 / CodecBits(shape.codec);
    for (int i = 0; i < shape.head_dim / per_word; ++i) {
      std::memmove(words + i * kKeyStride, at + i * kKeyStride, 4);
    }
  } else {
    const ValueWords there(shape, from_slot), here(shape, to_slot);
    for (int c = 0; c < shape.head_dim; c += 4) {
      here.Set(there.Get(from, c), c, to);
    }
  }
  for (int g = 0; g < QuantGroups(shape.head_dim); ++g) {
    std::memmove(to + ScaleAt(shape, g, to_slot),
                 from + ScaleAt(shape, g, from_slot), sizeof(uint16_t));
  }
}

}  // namespace pyramidkv
