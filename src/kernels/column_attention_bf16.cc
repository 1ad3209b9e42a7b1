// The bf16 form of kernels/column_attention.h in AVX-512 BF16 intrinsics
// (kernels/avx512_bf16-inl.h). Queries and keys are rounded as in
// attention_prefill_bf16.cc, so that probabilities fit the log-sum-exp.

#include <immintrin.h>

#include "kernels/column_attention.h"

#pragma GCC push_options
// The compiler's own AVX-512 headers start from undefined vectors.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

#include "kernels/avx512_bf16-inl.h"

namespace pyramidkv {
namespace {

constexpr int kVectors = 3;  // of entries in a tile
constexpr int kWidth = kVectors * kLanes;
static_assert(kColumnBlock % kWidth == 0);

// Rows of one query head on the kWidth entries from `first` on.
struct Tile {
  const uint32_t* q;  // row r at q + r * q_stride: [pairs] of bf16, scaled
  size_t q_stride;
  const float* lse;   // [kColumnRows]
  const int* limits;  // row r gives to the entries before limits[r]
  const uint32_t* k;  // [pairs, kWidth]
  const float* bias;  // [kWidth]
  int first;
  int pairs;  // head_dim / 2
  bool max_rows;
  float* sums;  // [kWidth], updated
};

// The first kCount vectors of entries.
template <int kCount>
void RunTile(const Tile& t) {
  __m512 acc[kColumnRows][kCount];
  for (int r = 0; r < kColumnRows; ++r) {
    const __m512 lse = _mm512_set1_ps(t.lse[r]);
    for (int x = 0; x < kCount; ++x) {
      acc[r][x] = _mm512_sub_ps(_mm512_load_ps(t.bias + x * kLanes), lse);
    }
  }
  const uint32_t* k = t.k;
  for (int i = 0; i < t.pairs; ++i, k += kWidth) {
    __m512i key[kCount];
    for (int x = 0; x < kCount; ++x) {
      key[x] = _mm512_load_si512(k + x * kLanes);
    }
    for (int r = 0; r < kColumnRows; ++r) {
      const __m512i query =
          _mm512_set1_epi32(static_cast<int>(t.q[r * t.q_stride + i]));
      for (int x = 0; x < kCount; ++x) {
        acc[r][x] = DotPairs(acc[r][x], key[x], query);
      }
    }
  }
  __m512 sums[kCount];
  for (int x = 0; x < kCount; ++x) {
    sums[x] = _mm512_load_ps(t.sums + x * kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kColumnRows; ++r) {
    const int visible = Min(Max(t.limits[r] - t.first, 0), kWidth);
    const uint64_t mask = (uint64_t{1} << visible) - 1;
#pragma GCC unroll 3
    for (int x = 0; x < kCount; ++x) {
      const __m512 p =
          Exp(static_cast<__mmask16>(mask >> (x * kLanes)), acc[r][x]);
      sums[x] =
          t.max_rows ? _mm512_max_ps(sums[x], p) : _mm512_add_ps(sums[x], p);
    }
  }
  for (int x = 0; x < kCount; ++x) {
    _mm512_store_ps(t.sums + x * kLanes, sums[x]);
  }
}

// Eight values, rounded to nearest even, as four pairs.
inline __m128i RoundEight(__m256 x) { return (__m128i)_mm256_cvtneps_pbh(x); }

// K of the columns [from, to) as [block of kWidth][pairs, kWidth], zeros
// after the last.
void PackKeys(const ColumnAttentionArgs& a, int from, int to, uint32_t* k) {
  const int padded = (to - from + kWidth - 1) / kWidth * kWidth;
  for (int j = 0; j < padded; ++j) {
    const int block = j / kWidth * kWidth;
    uint32_t* out = k + block * (a.head_dim / 2) + j % kWidth;
    const float* key = a.k + size_t(Min(from + j, to - 1)) * a.head_dim;
    const __mmask8 real = from + j < to ? 0xff : 0;
    for (int i = 0; i < a.head_dim; i += 8, out += 4 * kWidth) {
      uint32_t pairs[4];
      _mm_storeu_si128((__m128i*)pairs,
                       RoundEight(_mm256_maskz_loadu_ps(real, key + i)));
      for (int x = 0; x < 4; ++x) out[x * kWidth] = pairs[x];
    }
  }
}

// Queries of kColumnRows rows, scaled; rows after the last give nothing.
void PackRows(const ColumnAttentionArgs& a, int first, uint32_t* q, float* lse,
              int* limits) {
  const int width = a.group * a.head_dim;
  const __m256 scale = _mm256_set1_ps(a.scale);
  for (int r = 0; r < kColumnRows; ++r) {
    const int row = Min(first + r, a.rows - 1);
    limits[r] = first + r < a.rows ? a.limit(row) : 0;
    const float* from = a.q + row * a.q_stride;
    for (int i = 0; i < width; i += 8, q += 4) {
      _mm_storeu_si128((__m128i*)q, RoundEight(_mm256_mul_ps(
                                        _mm256_loadu_ps(from + i), scale)));
    }
    for (int g = 0; g < a.group; ++g) {
      lse[g * kColumnRows + r] = a.lse[row * a.lse_stride + g];
    }
  }
}

}  // namespace

void ColumnBlockBf16(const ColumnAttentionArgs& a, int from, int to,
                     ColumnScratch* scratch) {
  uint32_t* k = reinterpret_cast<uint32_t*>(scratch->k.data());
  uint32_t* q = reinterpret_cast<uint32_t*>(scratch->q.data());
  const float* bias = scratch->sums.data() + a.group * kColumnBlock;
  PackKeys(a, from, to, k);
  int limits[kColumnRows];
  Tile t;
  t.pairs = a.head_dim / 2;
  t.q_stride = size_t(a.group) * t.pairs;
  t.limits = limits;
  t.max_rows = a.max_rows;
  for (int row = a.first_row(from); row < a.rows; row += kColumnRows) {
    PackRows(a, row, q, scratch->lse.data(), limits);
    const int end = Min(to, a.limit(Min(row + kColumnRows, a.rows) - 1));
    for (t.first = from; t.first < end; t.first += kWidth) {
      const size_t column = t.first - from;
      t.k = k + column * t.pairs;
      t.bias = bias + column;
      for (int g = 0; g < a.group; ++g) {
        t.q = q + g * t.pairs;
        t.lse = scratch->lse.data() + g * kColumnRows;
        t.sums = scratch->sums.data() + g * kColumnBlock + column;
        if (end - t.first > 2 * kLanes) {
          RunTile<3>(t);
        } else if (end - t.first > kLanes) {
          RunTile<2>(t);
        } else {
          RunTile<1>(t);
        }
      }
    }
  }
}

}  // namespace pyramidkv

#pragma GCC pop_options
