// The bf16 form of kernels/attention_prefill.h in AVX-512 BF16 intrinsics
// (kernels/avx512_bf16-inl.h).

#include <immintrin.h>

#include <cmath>
#include <limits>

#include "kernels/attention_prefill.h"

#pragma GCC push_options
// The compiler's own AVX-512 headers start from undefined vectors.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

#include "kernels/avx512_bf16-inl.h"

namespace pyramidkv {
namespace {

constexpr int kRows = 8;  // keys of a score tile, channels of a value tile
static_assert(kLanes == kQueryTile);

struct Columns {
  int count;          // group * kQueryTile
  const uint32_t* q;  // [head_dim / 2, count] bf16 pairs, scaled
  float* scores;      // [kKeyBlock, count]
  uint32_t* probs;    // [kKeyBlock / 2, count] bf16 pairs
  float* max;         // [count]
  float* sum;         // [count]
  float* out;         // [head_dim, count]
};

inline int Pair(const uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return pair;
}

// Upper halves of two vectors as pairs (low, high), rounded.
inline __m512i PackPairs(__m512 low, __m512 high) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i lo =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(low), half), 16);
  const __m512i hi = _mm512_add_epi32(_mm512_castps_si512(high), half);
  // lo | (hi & 0xffff0000)
  return _mm512_ternarylogic_epi32(lo, hi, _mm512_set1_epi32(0xffff0000), 0xf8);
}

template <int kKeys, int kVectors>
inline void ScoreTile(const Columns& c, int column, const uint16_t* k,
                      const float* bias, int head_dim, float* scores) {
  __m512 acc[kKeys][kVectors];
  for (int j = 0; j < kKeys; ++j) {
    const __m512 start = _mm512_set1_ps(bias != nullptr ? bias[j] : 0.0f);
    for (int x = 0; x < kVectors; ++x) acc[j][x] = start;
  }
  const uint32_t* q = c.q + column;
  for (int i = 0; i < head_dim; i += 2, q += c.count) {
    __m512i qv[kVectors];
    for (int x = 0; x < kVectors; ++x) {
      qv[x] = _mm512_load_si512(q + x * kLanes);
    }
    for (int j = 0; j < kKeys; ++j) {
      const __m512i key = _mm512_set1_epi32(Pair(k + j * head_dim + i));
      for (int x = 0; x < kVectors; ++x) {
        acc[j][x] = DotPairs(acc[j][x], key, qv[x]);
      }
    }
  }
  for (int j = 0; j < kKeys; ++j) {
    for (int x = 0; x < kVectors; ++x) {
      _mm512_store_ps(scores + j * c.count + x * kLanes, acc[j][x]);
    }
  }
}

template <int kVectors>
void ScoreColumns(const Columns& c, int column, const uint16_t* k,
                  const float* bias, int keys, int head_dim) {
  const auto from = [bias](int j) { return bias ? bias + j : nullptr; };
  float* scores = c.scores + column;
  int j = 0;
  for (; j + kRows <= keys; j += kRows) {
    ScoreTile<kRows, kVectors>(c, column, k + size_t(j) * head_dim, from(j),
                               head_dim, scores + j * c.count);
  }
  for (; j < keys; ++j) {
    ScoreTile<1, kVectors>(c, column, k + size_t(j) * head_dim, from(j),
                           head_dim, scores + j * c.count);
  }
}

// Scores to bf16 probabilities; rescales sums and outputs if the maximum of
// any lane grew.
void SoftmaxColumn(const Columns& c, int column, int keys, int head_dim) {
  const float* scores = c.scores + column;
  const __m512 old_max = _mm512_load_ps(c.max + column);
  __m512 max = old_max;
  for (int j = 0; j < keys; ++j) {
    max = _mm512_max_ps(max, _mm512_load_ps(scores + j * c.count));
  }
  __m512 sum = _mm512_load_ps(c.sum + column);
  if (_mm512_cmp_ps_mask(max, old_max, _CMP_GT_OQ) != 0) {
    const __m512 rescale = Exp(_mm512_sub_ps(old_max, max));
    sum = _mm512_mul_ps(sum, rescale);
    float* out = c.out + column;
    for (int i = 0; i < head_dim; ++i, out += c.count) {
      _mm512_store_ps(out, _mm512_mul_ps(_mm512_load_ps(out), rescale));
    }
    _mm512_store_ps(c.max + column, max);
  }
  uint32_t* probs = c.probs + column;
  for (int j = 0; j < keys; j += 2, probs += c.count) {
    const __m512 low =
        Exp(_mm512_sub_ps(_mm512_load_ps(scores + j * c.count), max));
    __m512 high = _mm512_setzero_ps();
    if (j + 1 < keys) {
      high =
          Exp(_mm512_sub_ps(_mm512_load_ps(scores + (j + 1) * c.count), max));
    }
    // One at a time: the sum must not depend on how keys fall into pairs of
    // a cut block.
    sum = _mm512_add_ps(_mm512_add_ps(sum, low), high);
    _mm512_store_si512(probs, PackPairs(low, high));
  }
  _mm512_store_ps(c.sum + column, sum);
}

template <int kVectors>
void AddValues(const Columns& c, int column, const uint16_t* v, int pairs,
               int head_dim) {
  for (int i = 0; i < head_dim; i += kRows) {
    float* out = c.out + i * c.count + column;
    __m512 acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] = _mm512_load_ps(out + r * c.count + x * kLanes);
      }
    }
    const uint32_t* probs = c.probs + column;
    const uint16_t* value = v + 2 * i;
    for (int j = 0; j < pairs; ++j, probs += c.count, value += 2 * head_dim) {
      __m512i p[kVectors];
      for (int x = 0; x < kVectors; ++x) {
        p[x] = _mm512_load_si512(probs + x * kLanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const __m512i pair = _mm512_set1_epi32(Pair(value + 2 * r));
        for (int x = 0; x < kVectors; ++x) {
          acc[r][x] = DotPairs(acc[r][x], pair, p[x]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        _mm512_store_ps(out + r * c.count + x * kLanes, acc[r][x]);
      }
    }
  }
}

void MaskBlock(const PrefillTile& t, const Columns& c, int first, int keys) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  for (int i = 0; i < t.rows; ++i) {
    const int low = Min(Max(t.begin[i] - first, 0), keys);
    const int high = Min(Max(t.end[i] - first, 0), keys);
    if (low == 0 && high == keys) continue;
    for (int g = 0; g < t.group; ++g) {
      float* s = c.scores + g * kQueryTile + i;
      for (int j = 0; j < low; ++j) s[j * c.count] = kLowest;
      for (int j = high; j < keys; ++j) s[j * c.count] = kLowest;
    }
  }
}

void PackQueries(const PrefillTile& t, uint32_t* q) {
  const int count = t.group * kQueryTile;
  for (int g = 0; g < t.group; ++g) {
    for (int i = 0; i < kQueryTile; ++i) {
      const float* from =
          t.q + Min(i, t.rows - 1) * t.q_stride + g * t.head_dim;
      uint32_t* to = q + g * kQueryTile + i;
      for (int x = 0; x < t.head_dim; x += 2, to += count) {
        uint32_t low, high;
        const float a = from[x] * t.scale, b = from[x + 1] * t.scale;
        __builtin_memcpy(&low, &a, 4);
        __builtin_memcpy(&high, &b, 4);
        low += 0x7fff + ((low >> 16) & 1);  // to nearest even
        high += 0x7fff + ((high >> 16) & 1);
        *to = (low >> 16) | (high & 0xffff0000u);
      }
    }
  }
}

void UnpackOutput(const PrefillTile& t, const Columns& c) {
  for (int g = 0; g < t.group; ++g) {
    for (int i = 0; i < t.rows; ++i) {
      const int column = g * kQueryTile + i;
      const float inverse = 1.0f / c.sum[column];
      float* to = t.out + i * t.out_stride + g * t.head_dim;
      for (int x = 0; x < t.head_dim; ++x) {
        to[x] = c.out[x * c.count + column] * inverse;
      }
      if (t.lse == nullptr) continue;
      t.lse[i * t.lse_stride + g] = c.max[column] + std::log(c.sum[column]);
    }
  }
}

void ScoreAll(const Columns& c, const uint16_t* k, const float* bias, int keys,
              int head_dim) {
  int column = 0;
  for (; column + 3 * kLanes <= c.count; column += 3 * kLanes) {
    ScoreColumns<3>(c, column, k, bias, keys, head_dim);
  }
  for (; column < c.count; column += kLanes) {
    ScoreColumns<1>(c, column, k, bias, keys, head_dim);
  }
}

void AddAll(const Columns& c, const uint16_t* v, int keys, int head_dim) {
  const int pairs = (keys + 1) / 2;
  int column = 0;
  for (; column + 3 * kLanes <= c.count; column += 3 * kLanes) {
    AddValues<3>(c, column, v, pairs, head_dim);
  }
  for (; column < c.count; column += kLanes) {
    AddValues<1>(c, column, v, pairs, head_dim);
  }
}

}  // namespace

void AttendPrefillBf16(const PrefillTile& t, const uint16_t* k,
                       const uint16_t* v, PrefillScratch* scratch) {
  const int count = t.group * kQueryTile;
  const Columns c{count,
                  reinterpret_cast<uint32_t*>(scratch->q.data()),
                  scratch->scores.data(),
                  reinterpret_cast<uint32_t*>(scratch->probs.data()),
                  scratch->sums.data(),
                  scratch->sums.data() + count,
                  scratch->out.data()};
  PackQueries(t, reinterpret_cast<uint32_t*>(scratch->q.data()));
  for (int x = 0; x < count; ++x) {
    c.max[x] = std::numeric_limits<float>::lowest() / 2;
    c.sum[x] = 0;
  }
  for (int x = 0; x < t.head_dim * count; ++x) c.out[x] = 0;

  const int last = t.end[t.rows - 1];
  for (int block = t.BlockOf(t.begin[0]); block < last; block += kKeyBlock) {
    const int first = Max(block, 0);
    const int keys = Min(block + kKeyBlock, last) - first;
    ScoreAll(c, k + size_t(first) * t.head_dim,
             t.bias != nullptr ? t.bias + first : nullptr, keys, t.head_dim);
    MaskBlock(t, c, first, keys);
    for (int column = 0; column < count; column += kLanes) {
      SoftmaxColumn(c, column, keys, t.head_dim);
    }
    AddAll(c, v + size_t(first) * t.head_dim, keys, t.head_dim);
  }
  UnpackOutput(t, c);
}

}  // namespace pyramidkv

#pragma GCC pop_options
