// The form of kernels/attention_decode_int8.h for AVX-512 VNNI: products of
// bytes, queries and weights of 16 bits as two planes of 8.

#include <immintrin.h>

#include "base/check.h"
#include "kernels/attention_decode.h"
#include "kernels/attention_decode_int8.h"
#include "kernels/integer_unit.h"

#pragma GCC push_options
// The compiler's own AVX-512 headers start from undefined vectors.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")

#include "kernels/avx512_int8-inl.h"

// Plain pointers from here on: what is compiled for this target calls no
// inline function of a header, which would be merged into code for older CPUs.
namespace pyramidkv {
namespace {

constexpr int kLanes = 16;
constexpr int kVectors = kPageEntries / kLanes;  // of weights of a page

inline __m512i Broadcast(const int8_t* p) {
  return _mm512_set1_epi32(Read<int>(p));
}

// How the codes of a half are multiplied.
template <int kBitCount>
struct Codes {
  static constexpr int kBits = kBitCount;
  static constexpr int kParts = 8 / kBits;  // fours of values in a word
  static constexpr int kPerWord = 4 * kParts;
  // The code of 0; that of 2 bits lies between two codes, so they are doubled.
  static constexpr int kZero = kBits == 8 ? 128 : kBits == 4 ? 8 : 3;
  static constexpr float kUnit = kBits == 2 ? 0.5f : 1.0f;

  // Values 4 * part ... 4 * part + 3 of every word, as bytes.
  static __m512i Part(__m512i words, int part) {
    if (kBits == 8) return words;
    if (kBits == 4) {
      if (part > 0) words = _mm512_srli_epi16(words, 4);
      return _mm512_and_si512(words, _mm512_set1_epi8(15));
    }
    words = part == 0 ? _mm512_slli_epi16(words, 1)
                      : _mm512_srli_epi16(words, 2 * part - 1);
    return _mm512_and_si512(words, _mm512_set1_epi8(6));
  }
};

// Planes of 8 bits that a query or weight has next to such entries.
constexpr int QueryPlanes(int bits) { return bits == 8 ? 2 : 1; }
constexpr int kWeightPlanes = 2;

// Channels [0, n) of a group.
template <int kBits>
void RoundGroup(const float* q, int n, IntegerQuery* to) {
  constexpr int kPlanes = QueryPlanes(kBits);
  const uint32_t mask = n == kQuantGroup ? ~0u : (1u << n) - 1;
  const WholeGroup whole =
      RoundToWhole(_mm512_maskz_loadu_ps(__mmask16(mask), q),
                   _mm512_maskz_loadu_ps(__mmask16(mask >> 16), q + kLanes),
                   LargestOf(kPlanes), 1e-30f);
  StorePlanes<kPlanes>(whole, to->codes[2 - kPlanes]);
  to->scale = whole.unit;
  to->start = -Codes<kBits>::kZero *
              _mm512_reduce_add_epi32(_mm512_add_epi32(whole.a, whole.b));
}

// sum[h][plane] += the products of `words` words of 16 keys.
template <class C, int kHeads, int kPlanes>
__attribute__((always_inline)) inline void KeyDots(const uint8_t* codes,
                                                   const IntegerQuery* q,
                                                   int stride, int words,
                                                   __m512i (*sum)[kPlanes]) {
#pragma GCC unroll 8
  for (int w = 0; w < words; ++w) {
    const __m512i data = _mm512_loadu_si512(codes + 64 * w);
#pragma GCC unroll 4
    for (int part = 0; part < C::kParts; ++part) {
      const __m512i k = C::Part(data, part);
      const int at = C::kPerWord * w + 4 * part;
#pragma GCC unroll 3
      for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 2
        for (int p = 0; p < kPlanes; ++p) {
          sum[h][p] = _mm512_dpbusd_epi32(
              sum[h][p], k,
              Broadcast(q[h * stride].codes[2 - kPlanes + p] + at));
        }
      }
    }
  }
}

template <int kBits, int kHeads>
void ScoreKeys(const IntegerHalf& keys, const IntegerQuery* q, float* scores) {
  using C = Codes<kBits>;
  constexpr int kPlanes = QueryPlanes(kBits);
  const uint8_t* codes = keys.codes;
  for (int block = 0; block < keys.blocks; ++block) {
    __m512 score[kHeads];
    for (int h = 0; h < kHeads; ++h) score[h] = _mm512_setzero_ps();
    for (int g = 0; g < keys.groups; ++g) {
      const int left = keys.head_dim - g * kQuantGroup;
      __m512i sum[kHeads][kPlanes];
      for (int h = 0; h < kHeads; ++h) {
        sum[h][0] = _mm512_setzero_si512();
        sum[h][kPlanes - 1] = _mm512_set1_epi32(q[h * keys.groups + g].start);
      }
      if (left >= kQuantGroup) {
        constexpr int kWords = kQuantGroup / C::kPerWord;
        KeyDots<C, kHeads, kPlanes>(codes, q + g, keys.groups, kWords, sum);
        codes += 64 * kWords;
      } else {
        const int words = left / C::kPerWord;
        KeyDots<C, kHeads, kPlanes>(codes, q + g, keys.groups, words, sum);
        codes += 64 * words;
      }
      const __m512 scale =
          Halves(keys.scales + g * keys.page_entries + block * kLanes);
      for (int h = 0; h < kHeads; ++h) {
        __m512i total = sum[h][kPlanes - 1];
        if (kPlanes == 2) {
          total = _mm512_add_epi32(total, _mm512_slli_epi32(sum[h][0], 8));
        }
        const __m512 own = _mm512_set1_ps(q[h * keys.groups + g].scale);
        score[h] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total),
                                   _mm512_mul_ps(scale, own), score[h]);
      }
    }
    for (int h = 0; h < kHeads; ++h) {
      _mm512_storeu_ps(scores + h * kPageEntries + block * kLanes, score[h]);
    }
  }
}

// Weights of a page for a group of channels, rounded. The four of entries
// 16 * j + 4 * i ... are at 16 * i + 4 * j, where packing puts them.
template <int kHeads>
struct Weights {
  alignas(64) int8_t codes[kHeads][kWeightPlanes][kPageEntries];
  alignas(16) float scale[4];
  alignas(16) int start[4];
};

struct Sum {
  static __m512i Of(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
};
struct Most {
  static __m512i Of(__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }
};

// Lane h: Sum or Most of all lanes of x[h].
template <int kHeads, class F>
inline __m128i Reduce(const __m512i* x) {
  __m512i all = x[0];
  if (kHeads == 1) {  // lane 0 alone counts
    all = F::Of(all, _mm512_shuffle_epi32(all, _MM_PERM_BADC));
    all = F::Of(all, _mm512_shuffle_epi32(all, _MM_PERM_CDAB));
  } else {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i ab = F::Of(_mm512_unpacklo_epi32(x[0], x[1]),
                             _mm512_unpackhi_epi32(x[0], x[1]));
    const __m512i c = F::Of(_mm512_unpacklo_epi32(x[2], zero),
                            _mm512_unpackhi_epi32(x[2], zero));
    all = F::Of(_mm512_unpacklo_epi64(ab, c), _mm512_unpackhi_epi64(ab, c));
  }
  all = F::Of(all, _mm512_shuffle_i64x2(all, all, _MM_PERM_BADC));
  all = F::Of(all, _mm512_shuffle_i64x2(all, all, _MM_PERM_CDAB));
  return _mm512_castsi512_si128(all);
}

// The factor of each head's products, in w, to integers.
template <class C, int kHeads>
inline __m128 WeightFactors(const __m512 (*w)[kVectors], float* scale) {
  __m512i top[kHeads];
#pragma GCC unroll 3
  for (int h = 0; h < kHeads; ++h) {
    // As integers, so that a NaN is the largest of all.
    top[h] = _mm512_castps_si512(_mm512_abs_ps(w[h][0]));
#pragma GCC unroll 4
    for (int i = 1; i < kVectors; ++i) {
      top[h] =
          _mm512_max_epi32(top[h], _mm512_castps_si512(_mm512_abs_ps(w[h][i])));
    }
  }
  const __m128 most = _mm_castsi128_ps(Reduce<kHeads, Most>(top));
  constexpr float kMost = LargestOf(kWeightPlanes);
  _mm_store_ps(scale, _mm_mul_ps(most, _mm_set1_ps(C::kUnit / kMost)));
  const __m128 tiny = _mm_cmp_ps(most, _mm_set1_ps(1e-30f), _CMP_LE_OQ);
  return _mm_andnot_ps(tiny, _mm_div_ps(_mm_set1_ps(kMost), most));
}

// p: [kHeads, kPageEntries].
template <class C, int kHeads>
inline void RoundWeights(const IntegerHalf& v, const float* p, int group,
                         Weights<kHeads>* to) {
  const uint16_t* scales = v.scales + group * v.page_entries;
  // Pages may hold anything beside the entries.
  const uint64_t used =
      (~uint64_t{0} >> (63 - (v.end - 1))) & (~uint64_t{0} << v.begin);
  __m512 w[kHeads][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    const __mmask16 mask = static_cast<__mmask16>(used >> (i * kLanes));
    const __m512 scale =
        i < v.blocks
            ? _mm512_maskz_cvtph_ps(
                  mask, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(
                            scales + i * kLanes)))
            : _mm512_setzero_ps();
#pragma GCC unroll 3
    for (int h = 0; h < kHeads; ++h) {
      const float* const at = p + h * kPageEntries + i * kLanes;
      w[h][i] = i < v.blocks ? _mm512_mul_ps(_mm512_loadu_ps(at), scale)
                             : _mm512_setzero_ps();
    }
  }
  alignas(16) float factors[4];
  _mm_store_ps(factors, WeightFactors<C, kHeads>(w, to->scale));
  __m512i sum[kHeads];
#pragma GCC unroll 3
  for (int h = 0; h < kHeads; ++h) {
    const __m512 factor = _mm512_set1_ps(factors[h]);
    __m512i q[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(w[h][i], factor));
    }
    const __m512i low = _mm512_packs_epi32(q[0], q[1]);
    const __m512i high = _mm512_packs_epi32(q[2], q[3]);
    const __m512i round = _mm512_set1_epi16(128);
    _mm512_store_si512(
        to->codes[h][0],
        _mm512_packs_epi16(
            _mm512_srai_epi16(_mm512_add_epi16(low, round), 8),
            _mm512_srai_epi16(_mm512_add_epi16(high, round), 8)));
    _mm512_store_si512(
        to->codes[h][1],
        _mm512_packs_epi16(_mm512_srai_epi16(_mm512_slli_epi16(low, 8), 8),
                           _mm512_srai_epi16(_mm512_slli_epi16(high, 8), 8)));
    const __m512i zero = _mm512_set1_epi16(-C::kZero);
    sum[h] = _mm512_add_epi32(_mm512_madd_epi16(low, zero),
                              _mm512_madd_epi16(high, zero));
  }
  _mm_store_si128(reinterpret_cast<__m128i*>(to->start),
                  Reduce<kHeads, Sum>(sum));
}

// acc[h * acc_stride + 0 .. 16 * kColumns) += the products of so many blocks
// of 16 entries. mask: the channels of the last vector that there are.
template <class C, int kHeads, int kColumns>
inline void ValueDots(const uint8_t* codes, size_t row_bytes, int blocks,
                      const Weights<kHeads>* weights, __mmask16 mask,
                      size_t acc_stride, float* acc) {
  __m512i sum[kColumns][kHeads][kWeightPlanes];
#pragma GCC unroll 4
  for (int x = 0; x < kColumns; ++x) {
#pragma GCC unroll 3
    for (int h = 0; h < kHeads; ++h) {
      sum[x][h][0] = _mm512_setzero_si512();
      sum[x][h][1] = _mm512_set1_epi32(weights[x / 2].start[h]);
    }
  }
  for (int block = 0; block < blocks; ++block) {
    __m512i data[kColumns];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // four entries at a time
#pragma GCC unroll 4
      for (int x = 0; x < kColumns; ++x) {
        if (i % C::kParts == 0) {
          data[x] = _mm512_maskz_loadu_epi32(x == kColumns - 1 ? mask : 0xffff,
                                             codes + 64 * x);
        }
        const __m512i v = C::Part(data[x], i % C::kParts);
#pragma GCC unroll 3
        for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 2
          for (int p = 0; p < kWeightPlanes; ++p) {
            sum[x][h][p] = _mm512_dpbusd_epi32(
                sum[x][h][p], v,
                Broadcast(weights[x / 2].codes[h][p] + 16 * i + 4 * block));
          }
        }
      }
      if (i % C::kParts == C::kParts - 1) codes += row_bytes;
    }
  }
#pragma GCC unroll 4
  for (int x = 0; x < kColumns; ++x) {
    const __mmask16 there = x == kColumns - 1 ? mask : 0xffff;
#pragma GCC unroll 3
    for (int h = 0; h < kHeads; ++h) {
      const __m512i total =
          _mm512_add_epi32(sum[x][h][1], _mm512_slli_epi32(sum[x][h][0], 8));
      float* to = acc + h * acc_stride + x * kLanes;
      _mm512_mask_storeu_ps(
          to, there,
          _mm512_fmadd_ps(_mm512_cvtepi32_ps(total),
                          _mm512_set1_ps(weights[x / 2].scale[h]),
                          _mm512_maskz_loadu_ps(there, to)));
    }
  }
}

// Two groups of channels at a time: rows of 64 channels are read from end to
// end, as memory is fetched ahead, and one group's latency hides another's.
template <int kBits, int kHeads>
void AddValues(const IntegerHalf& v, const float* p, const float* /*sums*/,
               size_t acc_stride, float* acc) {
  using C = Codes<kBits>;
  const size_t row_bytes = size_t(4) * v.head_dim;
  for (int g = 0; g < v.groups; g += 2) {
    Weights<kHeads> weights[2];
    RoundWeights<C, kHeads>(v, p, g, &weights[0]);
    if (g + 1 < v.groups) RoundWeights<C, kHeads>(v, p, g + 1, &weights[1]);
    const int left = v.head_dim - g * kQuantGroup;
    const int last = left >= 4 * kLanes ? kLanes : (left - 1) % kLanes + 1;
    const auto mask = static_cast<__mmask16>((1u << last) - 1);
    const uint8_t* codes = v.codes + 4 * g * kQuantGroup;
    float* to = acc + g * kQuantGroup;
    if (left > 3 * kLanes) {
      ValueDots<C, kHeads, 4>(codes, row_bytes, v.blocks, weights, mask,
                              acc_stride, to);
    } else if (left > 2 * kLanes) {
      ValueDots<C, kHeads, 3>(codes, row_bytes, v.blocks, weights, mask,
                              acc_stride, to);
    } else if (left > kLanes) {
      ValueDots<C, kHeads, 2>(codes, row_bytes, v.blocks, weights, mask,
                              acc_stride, to);
    } else {
      ValueDots<C, kHeads, 1>(codes, row_bytes, v.blocks, weights, mask,
                              acc_stride, to);
    }
  }
}

}  // namespace
}  // namespace pyramidkv

#include "kernels/attention_decode_int8-inl.h"

#pragma GCC pop_options

namespace pyramidkv {

const IntegerForm& VnniForm() {
  static constexpr IntegerForm kForm = {
      "vnni", {.avx512_vnni = true}, RoundQueries, Score, Add};
  return kForm;
}

}  // namespace pyramidkv
