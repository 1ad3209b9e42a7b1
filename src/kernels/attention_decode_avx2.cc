// The form of kernels/attention_decode_int8.h for AVX2: codes become 16-bit
// lanes, two to a product with 16-bit queries or weights (vpmaddwd), which is
// as fast as products of bytes and needs no second plane. Keys of 4 bits are
// multiplied as bytes (vpmaddubsw): next to 8-bit queries, a group's sums
// still fit 16 bits.

#include <immintrin.h>

#include "base/check.h"
#include "kernels/attention_decode.h"
#include "kernels/attention_decode_int8.h"
#include "kernels/integer_unit.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#include "kernels/avx2_int8-inl.h"

// Plain members and pointers from here on: what is compiled for this target
// calls no inline function of a header, which would be merged into code for
// older CPUs.
namespace pyramidkv {
namespace {

constexpr int kLanes = 8;
constexpr int kGroupVectors = kQuantGroup / kLanes;
constexpr int kBlockVectors = 2;  // of 16 keys
constexpr float kLargestByte = 127.0f;
constexpr float kLargestShort = 32767.0f;

template <int kNumber>
struct Constant {
  static constexpr int kValue = kNumber;
};

// sum += product, now: left to itself, the compiler takes the products of many
// steps first and has no registers for them.
inline void Add32(__m256i product, __m256i* sum) {
  *sum = _mm256_add_epi32(*sum, product);
  asm("" : "+x"(*sum));
}
inline void Add16(__m256i product, __m256i* sum) {
  *sum = _mm256_add_epi16(*sum, product);
  asm("" : "+x"(*sum));
}

inline float Total(__m256 x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// The words of a half as 16-bit lanes. Value i of a word is at bits
// kBits * (i / 4) of its byte i % 4, so part t of kParts has the values
// (4 f, 4 f + 2) or (4 f + 1, 4 f + 3), f = t % kFours. Those they are
// multiplied by is kept in that order: fours of 16 bits as 0, 2, 1, 3.
template <int kBits>
struct Codes {
  static constexpr int kPerWord = 32 / kBits;
  static constexpr int kParts = 16 / kBits;
  static constexpr int kFours = kPerWord / 4;
  // Twice the code of 0, for that of 2 bits lies between two codes.
  static constexpr int kTwiceZero = kBits == 8 ? 256 : kBits == 4 ? 16 : 3;

  static __m256i Part(__m256i words, int part) {
    if (part > 0) words = _mm256_srli_epi16(words, kBits * part);
    if (part == kParts - 1) return words;
    return _mm256_and_si256(words, _mm256_set1_epi16((1 << kBits) - 1));
  }
  // Where part t's factors are, in 16-bit steps from the word's own.
  static constexpr int FactorsOf(int part) {
    return 4 * (part % kFours) + 2 * (part / kFours);
  }
};

// Two vectors of 32-bit integers as 16-bit fours, each in the order 0, 2, 1, 3.
inline __m256i PackFours(__m256i a, __m256i b) {
  const __m256i fours =
      _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  return _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(fours, 0xd8), 0xd8);
}

// Channels [0, n) of a group, n % 8 == 0, next to keys of so many bits.
template <int kBits>
void RoundGroup(const float* q, int n, IntegerQuery* to) {
  constexpr bool kBytes = kBits == 4;
  constexpr float kLimit = kBytes ? kLargestByte : kLargestShort;
  __m256 x[kGroupVectors];
  for (int i = 0; i < kGroupVectors; ++i) {
    x[i] =
        i * kLanes < n ? _mm256_loadu_ps(q + i * kLanes) : _mm256_setzero_ps();
  }
  __m256i codes[kGroupVectors];
  to->scale = RoundToWhole(x, kLimit, 1e-30f, codes);
  auto* at = reinterpret_cast<__m256i*>(to->codes);
  if (kBytes) {
    _mm256_storeu_si256(at, PackBytes(codes));
  } else {
    _mm256_storeu_si256(at, PackFours(codes[0], codes[1]));
    _mm256_storeu_si256(at + 1, PackFours(codes[2], codes[3]));
  }
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(codes[0], codes[1]),
                                       _mm256_add_epi32(codes[2], codes[3]));
  to->start = Sum(sum) * (kBytes ? -8 : -128);
}

// sum[h][x] = the products of `words` words of 16 keys; in 32 bits.
template <int kHeads>
__attribute__((always_inline)) inline void KeyDots8(
    const uint8_t* codes, const IntegerQuery* q, int stride, int words,
    __m256i (*sum)[kBlockVectors]) {
  using C = Codes<8>;
#pragma GCC unroll 8
  for (int w = 0; w < words; ++w, codes += 64) {
#pragma GCC unroll 2
    for (int part = 0; part < C::kParts; ++part) {
      const __m256i a = C::Part(Load(codes), part);
      const __m256i b = C::Part(Load(codes + 32), part);
#pragma GCC unroll 3
      for (int h = 0; h < kHeads; ++h) {
        const __m256i factors =
            Broadcast(q[h * stride].codes[0] + 8 * w + 4 * part);
        Add32(_mm256_madd_epi16(a, factors), &sum[h][0]);
        Add32(_mm256_madd_epi16(b, factors), &sum[h][1]);
      }
    }
  }
}

// The same of 4-bit keys, in pairs of 16 bits: at most 8 products of
// 2 * 15 * 127, which is below 2^15.
template <int kHeads>
__attribute__((always_inline)) inline void KeyDots4(
    const uint8_t* codes, const IntegerQuery* q, int stride, int words,
    __m256i (*sum)[kBlockVectors]) {
  const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 8
  for (int w = 0; w < words; ++w, codes += 64) {
#pragma GCC unroll 2
    for (int part = 0; part < 2; ++part) {
      __m256i a = Load(codes), b = Load(codes + 32);
      if (part > 0) {
        a = _mm256_srli_epi16(a, 4);
        b = _mm256_srli_epi16(b, 4);
      }
      a = _mm256_and_si256(a, mask);
      b = _mm256_and_si256(b, mask);
#pragma GCC unroll 3
      for (int h = 0; h < kHeads; ++h) {
        const __m256i factors =
            Broadcast(q[h * stride].codes[0] + 8 * w + 4 * part);
        Add16(_mm256_maddubs_epi16(a, factors), &sum[h][0]);
        Add16(_mm256_maddubs_epi16(b, factors), &sum[h][1]);
      }
    }
  }
}

template <int kBits, int kHeads>
__attribute__((always_inline)) inline void KeyDots(
    const uint8_t* codes, const IntegerQuery* q, int stride, int words,
    __m256i (*sum)[kBlockVectors]) {
  if (kBits == 8) return KeyDots8<kHeads>(codes, q, stride, words, sum);
  KeyDots4<kHeads>(codes, q, stride, words, sum);
}

// Asks for the page that is read next, a share of it for each of `shares`:
// values are read in columns, which the processor does not foresee.
inline void PrefetchNext(const IntegerHalf& keys, size_t share, size_t shares) {
  const auto* next = reinterpret_cast<const char*>(keys.next);
  const size_t end = keys.next_bytes * (share + 1) / shares;
  for (size_t i = keys.next_bytes * share / shares; i < end; i += 64) {
    _mm_prefetch(next + i, _MM_HINT_T0);
  }
}

template <int kBits, int kHeads>
void ScoreKeys(const IntegerHalf& keys, const IntegerQuery* q, float* scores) {
  constexpr int kPerWord = 32 / kBits;
  const __m256i ones = _mm256_set1_epi16(1);
  const uint8_t* codes = keys.codes;
  for (int block = 0; block < keys.blocks; ++block) {
    __m256 score[kHeads][kBlockVectors];
    for (int h = 0; h < kHeads; ++h) {
      score[h][0] = score[h][1] = _mm256_setzero_ps();
    }
    for (int g = 0; g < keys.groups; ++g) {
      PrefetchNext(keys, block * keys.groups + g, keys.blocks * keys.groups);
      const int left = keys.head_dim - g * kQuantGroup;
      __m256i sum[kHeads][kBlockVectors];
      for (int h = 0; h < kHeads; ++h) {
        sum[h][0] = sum[h][1] = _mm256_setzero_si256();
      }
      if (left >= kQuantGroup) {
        constexpr int kWords = kQuantGroup / kPerWord;
        KeyDots<kBits, kHeads>(codes, q + g, keys.groups, kWords, sum);
        codes += 64 * kWords;
      } else {
        const int words = left / kPerWord;
        KeyDots<kBits, kHeads>(codes, q + g, keys.groups, words, sum);
        codes += 64 * words;
      }
      const uint16_t* scales = keys.scales + g * keys.page_entries + block * 16;
#pragma GCC unroll 2
      for (int x = 0; x < kBlockVectors; ++x) {
        const __m256 scale = Halves(scales + x * kLanes);
#pragma GCC unroll 3
        for (int h = 0; h < kHeads; ++h) {
          const IntegerQuery& own = q[h * keys.groups + g];
          __m256i total = sum[h][x];
          if (kBits == 4) total = _mm256_madd_epi16(total, ones);
          total = _mm256_add_epi32(total, _mm256_set1_epi32(own.start));
          score[h][x] = _mm256_fmadd_ps(
              _mm256_cvtepi32_ps(total),
              _mm256_mul_ps(scale, _mm256_set1_ps(own.scale)), score[h][x]);
        }
      }
    }
    for (int h = 0; h < kHeads; ++h) {
      float* to = scores + h * kPageEntries + block * 16;
      _mm256_storeu_ps(to, score[h][0]);
      _mm256_storeu_ps(to + kLanes, score[h][1]);
    }
  }
}

// acc += (2 * sum + start) * scale, of each head.
template <int kHeads, int kColumns>
__attribute__((always_inline)) inline void AddSums(const __m256i (*sum)[kHeads],
                                                   const int* start,
                                                   const float* scale,
                                                   size_t acc_stride,
                                                   float* acc) {
#pragma GCC unroll 4
  for (int x = 0; x < kColumns; ++x) {
#pragma GCC unroll 3
    for (int h = 0; h < kHeads; ++h) {
      const __m256i total = _mm256_add_epi32(_mm256_slli_epi32(sum[x][h], 1),
                                             _mm256_set1_epi32(start[h]));
      float* to = acc + h * acc_stride + x * kLanes;
      _mm256_storeu_ps(
          to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(total),
                              _mm256_set1_ps(scale[h]), _mm256_loadu_ps(to)));
    }
  }
}

// Vector i of the scales of a group; 0 beside the entries: what pages hold
// there is not to be trusted.
inline __m256 SeenScales(const IntegerHalf& v, int group, int i) {
  const __m256i slot = _mm256_add_epi32(
      _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(i * kLanes));
  const __m256i seen =
      _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(v.begin), slot),
                          _mm256_cmpgt_epi32(_mm256_set1_epi32(v.end), slot));
  const uint16_t* const scales = v.scales + group * v.page_entries;
  return _mm256_and_ps(Halves(scales + i * kLanes), _mm256_castsi256_ps(seen));
}

// Weights of a page for a group of channels, rounded, in fours like a query.
template <int kHeads>
struct Weights {
  alignas(32) int16_t codes[kHeads][kPageEntries];
  float scale[kHeads];
  int start[kHeads];
};

// p: [kHeads, kPageEntries].
template <int kBits, int kHeads>
void RoundWeights(const IntegerHalf& v, const float* p, int group,
                  Weights<kHeads>* to) {
  const int vectors = 2 * v.blocks;
  alignas(32) float w[kHeads][kPageEntries];
  __m256 top[kHeads];
  for (int h = 0; h < kHeads; ++h) top[h] = _mm256_setzero_ps();
  for (int i = 0; i < vectors; ++i) {
    const __m256 scale = SeenScales(v, group, i);
#pragma GCC unroll 3
    for (int h = 0; h < kHeads; ++h) {
      const __m256 x = _mm256_mul_ps(
          _mm256_loadu_ps(p + h * kPageEntries + i * kLanes), scale);
      _mm256_store_ps(w[h] + i * kLanes, x);
      top[h] = Most(top[h], Abs(x));
    }
  }
  constexpr int kTwiceZero = Codes<kBits>::kTwiceZero;
  for (int h = 0; h < kHeads; ++h) {
    const float most = Largest(top[h]);
    to->scale[h] = most / (2 * kLargestShort);
    const __m256 factor =
        _mm256_set1_ps(most <= 1e-30f ? 0.0f : kLargestShort / most);
    __m256i start = _mm256_setzero_si256();
    for (int i = 0; i < vectors; i += 2) {
      const float* from = w[h] + i * kLanes;
      const __m256i codes = PackFours(
          _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(from), factor)),
          _mm256_cvtps_epi32(
              _mm256_mul_ps(_mm256_load_ps(from + kLanes), factor)));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to->codes[h] + i * kLanes),
                         codes);
      start = _mm256_add_epi32(
          start, _mm256_madd_epi16(codes, _mm256_set1_epi16(-kTwiceZero)));
    }
    to->start[h] = Sum(start);
  }
}

// The same in 7 bits and a sign, in the order of the slots.
template <int kHeads>
struct ByteWeights {
  alignas(32) int8_t codes[kHeads][kPageEntries];
  float scale[kHeads];
  int start[kHeads];
};

// They are added before weights are cut off, one for each slot: every 64th
// part of a unit once, neighbours far apart.
struct Thresholds {
  constexpr Thresholds() {
    for (int i = 0; i < kPageEntries; ++i) {
      at[i] = (static_cast<float>(i * 37 % kPageEntries) + 0.5f) / kPageEntries;
    }
  }
  alignas(32) float at[kPageEntries] = {};
};
constexpr Thresholds kThresholds;

// most[h]: the largest of p. False: a page's weights are too large a part of
// all for 7 bits.
constexpr float kByteShare = 1.0f / 16;
template <int kHeads>
inline bool BytesSuffice(const IntegerHalf& v, const float* p,
                         const float* sums, float* most) {
  bool suffice = true;
#pragma GCC unroll 3
  for (int h = 0; h < kHeads; ++h) {
    __m256 top = _mm256_setzero_ps();
    for (int i = 0; i < 2 * v.blocks; ++i) {
      top = Most(top, _mm256_loadu_ps(p + h * kPageEntries + i * kLanes));
    }
    most[h] = Largest(top);
    suffice = suffice && most[h] <= kByteShare * sums[h];
  }
  return suffice;
}

// p, most: as above. False: a scale is far larger than the others, whose
// weights would have few of the 7 bits.
constexpr float kUnequalScales = 6.0f;
template <int kBits, int kHeads>
bool RoundToBytes(const IntegerHalf& v, const float* p, const float* most,
                  int group, ByteWeights<kHeads>* to) {
  const int vectors = 2 * v.blocks;
  __m256 scale[kPageEntries / kLanes];
  __m256 top = _mm256_setzero_ps(), total = _mm256_setzero_ps();
  for (int i = 0; i < vectors; ++i) {
    scale[i] = SeenScales(v, group, i);
    top = Most(top, Abs(scale[i]));
    total = _mm256_add_ps(total, Abs(scale[i]));
  }
  const float most_scale = Largest(top);
  const auto entries = static_cast<float>(v.end - v.begin);
  if (!(most_scale * entries <= kUnequalScales * Total(total))) return false;
  constexpr int kTwiceZero = Codes<kBits>::kTwiceZero;
  for (int h = 0; h < kHeads; ++h) {
    const float limit = most[h] * most_scale;
    to->scale[h] = limit / (2 * kLargestByte);
    const __m256 factor =
        _mm256_set1_ps(limit <= 1e-30f ? 0.0f : kLargestByte / limit);
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < vectors; i += 4) {
      __m256i codes[4];
      for (int j = 0; j < 4; ++j) {
        codes[j] = _mm256_setzero_si256();
        if (i + j >= vectors) continue;
        const int at = (i + j) * kLanes;
        const __m256 x =
            _mm256_mul_ps(_mm256_loadu_ps(p + h * kPageEntries + at),
                          _mm256_mul_ps(scale[i + j], factor));
        codes[j] = _mm256_cvttps_epi32(_mm256_floor_ps(
            _mm256_add_ps(x, _mm256_load_ps(kThresholds.at + at))));
      }
      const __m256i packed = PackBytes(codes);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to->codes[h] + i * kLanes),
                         packed);
      sum = _mm256_add_epi32(
          sum,
          _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed),
                            _mm256_set1_epi16(-kTwiceZero)));
    }
    to->start[h] = Sum(sum);
  }
  return true;
}

// acc[h * acc_stride + 0 .. 8 * kColumns) += the products of so many blocks
// of 16 entries. Sums of pairs stay below 8 * 2 * 15 * 127 < 2^15.
template <int kBits, int kHeads, int kColumns>
void ValueBytes(const uint8_t* codes, size_t row_bytes, int blocks,
                const ByteWeights<kHeads>& weights, size_t acc_stride,
                float* acc) {
  constexpr int kParts = 8 / kBits;
  const __m256i mask = _mm256_set1_epi8((1 << kBits) - 1);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[kColumns][kHeads];
  for (int x = 0; x < kColumns; ++x) {
    for (int h = 0; h < kHeads; ++h) sum[x][h] = _mm256_setzero_si256();
  }
  const int8_t* first = weights.codes[0];
  for (int block = 0; block < blocks; block += 2) {
    __m256i pairs[kColumns][kHeads];
    for (int x = 0; x < kColumns; ++x) {
      for (int h = 0; h < kHeads; ++h) pairs[x][h] = _mm256_setzero_si256();
    }
    const int end = block + 2 < blocks ? block + 2 : blocks;
    for (int b = block; b < end; ++b, first += 16) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int part = i % kParts;
        __m256i factors[kHeads];
#pragma GCC unroll 3
        for (int h = 0; h < kHeads; ++h) {
          factors[h] = Broadcast(first + h * kPageEntries + 4 * i);
        }
#pragma GCC unroll 4
        for (int x = 0; x < kColumns; ++x) {
          __m256i values = Load(codes + 32 * x);
          if (part > 0) values = _mm256_srli_epi16(values, kBits * part);
          values = _mm256_and_si256(values, mask);
#pragma GCC unroll 3
          for (int h = 0; h < kHeads; ++h) {
            Add16(_mm256_maddubs_epi16(values, factors[h]), &pairs[x][h]);
          }
        }
        if (part == kParts - 1) codes += row_bytes;
      }
    }
    for (int x = 0; x < kColumns; ++x) {
      for (int h = 0; h < kHeads; ++h) {
        sum[x][h] =
            _mm256_add_epi32(sum[x][h], _mm256_madd_epi16(pairs[x][h], ones));
      }
    }
  }
  AddSums<kHeads, kColumns>(sum, weights.start, weights.scale, acc_stride, acc);
}

// acc[h * acc_stride + 0 .. 8 * kColumns) += the products of so many blocks
// of 16 entries.
template <int kBits, int kHeads, int kColumns>
void ValueDots(const uint8_t* codes, size_t row_bytes, int blocks,
               const Weights<kHeads>& weights, size_t acc_stride, float* acc) {
  using C = Codes<kBits>;
  __m256i sum[kColumns][kHeads];
  for (int x = 0; x < kColumns; ++x) {
    for (int h = 0; h < kHeads; ++h) sum[x][h] = _mm256_setzero_si256();
  }
  const int16_t* first = weights.codes[0];
  for (int block = 0; block < blocks; ++block, first += 16) {
#pragma GCC unroll 8
    for (int i = 0; i < 16 / 2; ++i) {
      const int part = i % C::kParts;
      const int at = i / C::kParts * C::kPerWord + C::FactorsOf(part);
      __m256i factors[kHeads];
#pragma GCC unroll 3
      for (int h = 0; h < kHeads; ++h) {
        factors[h] = Broadcast(first + h * kPageEntries + at);
      }
#pragma GCC unroll 4
      for (int x = 0; x < kColumns; ++x) {
        const __m256i v = C::Part(Load(codes + 32 * x), part);
#pragma GCC unroll 3
        for (int h = 0; h < kHeads; ++h) {
          Add32(_mm256_madd_epi16(v, factors[h]), &sum[x][h]);
        }
      }
      if (part == C::kParts - 1) codes += row_bytes;
    }
  }
  AddSums<kHeads, kColumns>(sum, weights.start, weights.scale, acc_stride, acc);
}

// f(first channel, how many columns of 8: a constant) for those of a group.
template <class F>
__attribute__((always_inline)) inline void ForColumns(const IntegerHalf& v,
                                                      int group, const F& f) {
  const int end = v.head_dim < (group + 1) * kQuantGroup
                      ? v.head_dim
                      : (group + 1) * kQuantGroup;
  int c = group * kQuantGroup;
  for (; c + 2 * kLanes <= end; c += 2 * kLanes) f(c, Constant<2>());
  if (c < end) f(c, Constant<1>());
}

template <int kBits, int kHeads>
void AddValues(const IntegerHalf& v, const float* p, const float* sums,
               size_t acc_stride, float* acc) {
  const size_t row_bytes = size_t(4) * v.head_dim;
  float most[kHeads];
  const bool bytes = kBits < 8 && BytesSuffice<kHeads>(v, p, sums, most);
  for (int g = 0; g < v.groups; ++g) {
    if constexpr (kBits < 8) {
      ByteWeights<kHeads> weights;
      if (bytes && RoundToBytes<kBits, kHeads>(v, p, most, g, &weights)) {
        ForColumns(v, g, [&](int c, auto columns) {
          ValueBytes<kBits, kHeads, columns.kValue>(v.codes + 4 * c, row_bytes,
                                                    v.blocks, weights,
                                                    acc_stride, acc + c);
        });
        continue;
      }
    }
    Weights<kHeads> weights;
    RoundWeights<kBits, kHeads>(v, p, g, &weights);
    ForColumns(v, g, [&](int c, auto columns) {
      ValueDots<kBits, kHeads, columns.kValue>(
          v.codes + 4 * c, row_bytes, v.blocks, weights, acc_stride, acc + c);
    });
  }
}

}  // namespace
}  // namespace pyramidkv

#include "kernels/attention_decode_int8-inl.h"

#pragma GCC pop_options

namespace pyramidkv {

const IntegerForm& Avx2Form() {
  static constexpr IntegerForm kForm = {
      "avx2", {.avx2 = true}, RoundQueries, Score, Add};
  return kForm;
}

}  // namespace pyramidkv
