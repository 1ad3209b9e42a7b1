// The int16 form of kernels/attention_prefill.h in AVX2 intrinsics, for CPUs
// that multiply no bf16: a multiplication and an addition of integers do 16
// products where one of floats does 8, and share more pipes.
//
// Scores are exact sums of products of integers, so only the rounding of a
// query and a key as a whole is lost: 15 bits of the row's length.
//
// Values have a scale for each entry, which goes into its probability; these
// products are rounded relative to their sum over a block, as fine as sums in
// 32 bits allow. So a block's probabilities are as exact far below the maximum
// of the row as at it, and no channel of the values depends on another one
// beyond the range of 15 bits in an entry.
//
// Blocks are added to f32 sums relative to a maximum that may be stale: only
// where a block's exceeds it by far does a lane take that, and what the lane
// has summed is rescaled. Blocks begin at multiples of kKeyBlock and sums
// within one are exact, so what a lane does follows from its own entries alone.

#include <immintrin.h>

#include <cmath>
#include <limits>

#include "kernels/attention_prefill-inl.h"
#include "kernels/attention_prefill.h"
#include "kernels/int16_rows.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace pyramidkv {
namespace {

constexpr int kLanes = 8;
constexpr int kVectors = 3;  // of lanes, which share each load of an entry
constexpr int kWidth = kVectors * kLanes;
// So the last kVectors of a call lie in its scratch, too.
static_assert(kMaxQueryRows % kWidth == 0);
constexpr int kKeys = 4;      // of a score tile
constexpr int kChannels = 4;  // of a value tile
constexpr float kLog2E = 1.44269504f;
// A maximum before anything was seen: all others exceed it, and the score of
// what nobody sees is still far below it.
constexpr float kNothingSeen = std::numeric_limits<float>::lowest() / 2;
// A block's maximum may exceed the lane's by so much (log2) before the lane
// takes it.
constexpr float kMaxExcess = 40;
// The integers of a block's probabilities sum to this, beside their rounding:
// times kInt16Max it stays below 2^31.
constexpr float kProbSum = 65000;
static_assert((kProbSum + kKeyBlock / 2.0f) * kInt16Max < 2147483648.0f);
// A block's probabilities sum to 1 at least, unless it has none; times scales
// of values below this they count as none.
constexpr float kNoSum = 1e-20f;
static_assert(kKeys <= kKeyTile && kLanes <= kKeyTile);  // as scratch has

// Not std::min: an inline function of a header must not be compiled for AVX2
// and then merged into code for older CPUs.
inline int Min(int a, int b) { return a < b ? a : b; }
inline int Max(int a, int b) { return a > b ? a : b; }

struct Columns {
  int32_t* q;      // [head_dim / 2, kWidth] pairs
  float* scores;   // [kKeyBlock + kKeys, kWidth], log2; then probabilities
  int32_t* probs;  // [kKeyBlock / 2, kWidth] pairs
  float* q_scale;  // [kWidth]
  float* max;      // [kWidth], log2
  float* sum;      // [kWidth]
  float* out;      // [head_dim, kWidth]
  int head_dim;
  bool fetches;  // the next block, for all columns
  LanesSee<kVectors, kLanes> see;
};

// Entries [first, first + count), at most a block; first is even.
struct Block {
  int first;
  int count;
  const int16_t* k;  // [count, head_dim]
  const int16_t* v;  // [(count + 1) / 2, head_dim, 2]
  // Zeros after the last entry. bias: log2.
  float k_scale[kKeyBlock + kKeys];
  float v_scale[kKeyBlock + kKeys];
  float bias[kKeyBlock + kKeys];
};

inline __m256i BroadcastPair(const int16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

inline __m256i Load(const int32_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

inline void Store(__m256i x, int32_t* p) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), x);
}

// sum + the products of two pairs of integers. Left to itself the compiler
// takes more products ahead than there are registers.
inline __m256i AddProducts(__m256i sum, __m256i a, __m256i b) {
  asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(_mm256_madd_epi16(a, b)));
  return sum;
}

// 2^x for x up to 127: relative error below 3e-6, 1 for 0, and 0 below -126.
inline __m256 Exp2(__m256 x) {
  const __m256 keep = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_GE_OQ);
  // Adding it leaves the nearest whole number in the lowest bits.
  const __m256 shift = _mm256_set1_ps(12582912.0f);
  const __m256 n = _mm256_add_ps(x, shift);
  const __m256 f = _mm256_sub_ps(x, _mm256_sub_ps(n, shift));
  __m256 p = _mm256_set1_ps(9.6181291e-3f);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.5504109e-2f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.4022651e-1f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.9314718e-1f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
  const __m256i two_n = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
  return _mm256_and_ps(keep, _mm256_castsi256_ps(_mm256_add_epi32(
                                 _mm256_castps_si256(p), two_n)));
}

// Scores of the entries [j, j + kKeys) of a block; those from `to` on are of
// no use and repeat the last one.
inline void ScoreTile(const Columns& c, const Block& b, int j, int to) {
  const int16_t* key[kKeys];
#pragma GCC unroll 4
  for (int r = 0; r < kKeys; ++r) {
    key[r] = b.k + size_t(Min(j + r, to - 1)) * c.head_dim;
  }
  __m256i acc[kKeys][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kKeys; ++r) {
#pragma GCC unroll 4
    for (int x = 0; x < kVectors; ++x) acc[r][x] = _mm256_setzero_si256();
  }
  const int32_t* q = c.q;
  for (ptrdiff_t i = 0; i < c.head_dim; i += 2, q += kWidth) {
    __m256i qv[kVectors];
#pragma GCC unroll 4
    for (int x = 0; x < kVectors; ++x) qv[x] = Load(q + x * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kKeys; ++r) {
      const __m256i pair = BroadcastPair(key[r] + i);
#pragma GCC unroll 4
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] = AddProducts(acc[r][x], pair, qv[x]);
      }
    }
  }
  float* scores = c.scores + j * kWidth;
#pragma GCC unroll 4
  for (int x = 0; x < kVectors; ++x) {
    const __m256 q_scale = _mm256_load_ps(c.q_scale + x * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kKeys; ++r) {
      const __m256 s = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][x]),
                                     _mm256_broadcast_ss(b.k_scale + j + r));
      _mm256_store_ps(
          scores + r * kWidth + x * kLanes,
          _mm256_fmadd_ps(s, q_scale, _mm256_broadcast_ss(b.bias + j + r)));
    }
  }
}

// Masks what the rows do not see of the entries [from, to) of a block.
[[gnu::noinline]] void Mask(const Columns& c, const Block& b, int from,
                            int to) {
  c.see.Mask(b.first, from, to, c.scores);
}

// The maximum that the lanes of vector x are relative to from now on.
inline __m256 RaiseMaximum(const Columns& c, int x, __m256 block_max) {
  const __m256 old_max = _mm256_load_ps(c.max + x * kLanes);
  const __m256 grown = _mm256_cmp_ps(_mm256_sub_ps(block_max, old_max),
                                     _mm256_set1_ps(kMaxExcess), _CMP_GT_OQ);
  if (_mm256_movemask_ps(grown) == 0) return old_max;
  const __m256 max = _mm256_blendv_ps(old_max, block_max, grown);
  _mm256_store_ps(c.max + x * kLanes, max);
  const __m256 rescale = Exp2(_mm256_sub_ps(old_max, max));  // or 1
  const auto apply = [rescale](float* to) {
    _mm256_store_ps(to, _mm256_mul_ps(_mm256_load_ps(to), rescale));
  };
  apply(c.sum + x * kLanes);
  for (int i = 0; i < c.head_dim; ++i) apply(c.out + i * kWidth + x * kLanes);
  return max;
}

// Turns the scores [from, to) of vector x into integers times a scale, which
// is returned relative to the lane's maximum. Both limits are even; so that
// they are, there may be one masked score.
inline __m256 Softmax(const Columns& c, const Block& b, int x, int from,
                      int to) {
  float* const scores = c.scores + x * kLanes;
  __m256 max = _mm256_set1_ps(kNothingSeen);
  for (int j = from; j < to; ++j) {
    max = _mm256_max_ps(max, _mm256_load_ps(scores + j * kWidth));
  }
  __m256 sum = _mm256_setzero_ps(), scaled_sum = sum, largest = sum;
  for (int j = from; j < to; ++j) {
    float* const s = scores + j * kWidth;
    const __m256 p = Exp2(_mm256_sub_ps(_mm256_load_ps(s), max));
    const __m256 scaled = _mm256_mul_ps(p, _mm256_broadcast_ss(b.v_scale + j));
    _mm256_store_ps(s, scaled);
    sum = _mm256_add_ps(sum, p);
    scaled_sum = _mm256_add_ps(scaled_sum, scaled);
    largest = _mm256_max_ps(largest, scaled);
  }
  // No integer is larger than half of kProbSum. (A sum that is no number is
  // the result of max.)
  const __m256 range =
      _mm256_max_ps(_mm256_add_ps(largest, largest),
                    _mm256_max_ps(_mm256_set1_ps(kNoSum), scaled_sum));
  const __m256 inverse = _mm256_div_ps(_mm256_set1_ps(kProbSum), range);
  // Adding it leaves the nearest whole number in the lowest bits.
  const __m256 shift = _mm256_set1_ps(12582912.0f);
  int32_t* probs = c.probs + from / 2 * kWidth + x * kLanes;
  for (int j = from; j < to; j += 2, probs += kWidth) {
    const float* const s = scores + j * kWidth;
    const __m256i low =
        _mm256_castps_si256(_mm256_fmadd_ps(_mm256_load_ps(s), inverse, shift));
    const __m256i high = _mm256_castps_si256(
        _mm256_fmadd_ps(_mm256_load_ps(s + kWidth), inverse, shift));
    Store(_mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa), probs);
  }
  const __m256 weight = Exp2(_mm256_sub_ps(max, RaiseMaximum(c, x, max)));
  float* const total = c.sum + x * kLanes;
  _mm256_store_ps(total, _mm256_fmadd_ps(sum, weight, _mm256_load_ps(total)));
  return _mm256_mul_ps(weight,
                       _mm256_mul_ps(range, _mm256_set1_ps(1.0f / kProbSum)));
}

// Fetches the part of the next block that belongs to the value tile at channel
// i, as if there were a next block, to the second-level cache.
inline void FetchAhead(const Block& b, int head_dim, int i) {
  constexpr int kLine = kAlignment / sizeof(int16_t);
  const size_t next = size_t{kKeyBlock} * head_dim;
  const size_t part = size_t{kKeyBlock} * i;
  for (int x = 0; x < kKeyBlock * kChannels; x += kLine) {
    _mm_prefetch(b.k + next + part + x, _MM_HINT_T1);
    _mm_prefetch(b.v + next + part + x, _MM_HINT_T1);
  }
}

// Adds the values of the entries [from, to), both even, times `weights`.
inline void AddValues(const Columns& c, const Block& b, int from, int to,
                      const __m256 (&weights)[kVectors]) {
  for (int i = 0; i < c.head_dim; i += kChannels) {
    if (c.fetches) FetchAhead(b, c.head_dim, i);
    __m256i acc[kChannels][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kChannels; ++r) {
#pragma GCC unroll 4
      for (int x = 0; x < kVectors; ++x) acc[r][x] = _mm256_setzero_si256();
    }
    const int32_t* probs = c.probs + from / 2 * kWidth;
    const int16_t* value = b.v + size_t(from) * c.head_dim + 2 * i;
    for (int j = from; j < to; j += 2, probs += kWidth) {
      __m256i p[kVectors];
#pragma GCC unroll 4
      for (int x = 0; x < kVectors; ++x) p[x] = Load(probs + x * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kChannels; ++r) {
        const __m256i pair = BroadcastPair(value + 2 * r);
#pragma GCC unroll 4
        for (int x = 0; x < kVectors; ++x) {
          acc[r][x] = AddProducts(acc[r][x], pair, p[x]);
        }
      }
      value += 2 * c.head_dim;
    }
    float* out = c.out + i * kWidth;
#pragma GCC unroll 4
    for (int r = 0; r < kChannels; ++r, out += kWidth) {
#pragma GCC unroll 4
      for (int x = 0; x < kVectors; ++x) {
        float* const to_add = out + x * kLanes;
        _mm256_store_ps(
            to_add, _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][x]), weights[x],
                                    _mm256_load_ps(to_add)));
      }
    }
  }
}

void AddBlock(const Columns& c, const Block& b) {
  const int from = Max(c.see.first() - b.first, 0) / 2 * 2;
  const int end = Min(c.see.last() - b.first, b.count);
  if (from >= end) return;
  for (int j = from; j < end; j += kKeys) ScoreTile(c, b, j, end);
  const int to = (end + 1) / 2 * 2;
  if (!c.see.all_see(b.first + from, b.first + to)) Mask(c, b, from, to);
  __m256 weights[kVectors];
  for (int x = 0; x < kVectors; ++x) weights[x] = Softmax(c, b, x, from, to);
  AddValues(c, b, from, to, weights);
}

void SetBlock(const PrefillTile& t, const Int16Entries& e, int from, int to,
              Block* b) {
  b->first = from;
  b->count = to - from;
  b->k = e.k + size_t(from) * t.head_dim;
  b->v = e.v + size_t(from) * t.head_dim;
  for (int j = 0; j < kKeyBlock + kKeys; ++j) {
    const bool there = j < b->count;
    b->k_scale[j] = there ? e.k_scale[from + j] : 0.0f;
    b->v_scale[j] = there ? e.v_scale[from + j] : 0.0f;
    b->bias[j] = there && t.bias != nullptr ? t.bias[from + j] * kLog2E : 0.0f;
  }
}

// Rows become columns.
inline void Transpose(__m256 (&m)[kLanes]) {
  __m256 pairs[kLanes], quads[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
  }
  for (int i = 0; i < kLanes; i += 4) {
    for (int r = 0; r < 2; ++r) {
      quads[i + 2 * r] =
          _mm256_shuffle_ps(pairs[i + r], pairs[i + r + 2], 0x44);
      quads[i + 2 * r + 1] =
          _mm256_shuffle_ps(pairs[i + r], pairs[i + r + 2], 0xee);
    }
  }
  for (int i = 0; i < kLanes / 2; ++i) {
    m[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    m[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

using Vectors = FixedVectors<kVectors, kLanes>;

// The rows of a vector to q[head_dim / 2, stride] and q_scale[kLanes]; rows:
// [kLanes, head_dim].
void PackQueries(const PrefillTile& t, int vector, int stride, int16_t* rows,
                 int32_t* q, float* q_scale) {
  const int head = vector % t.group;
  for (int r = 0; r < kLanes; ++r) {
    const int row = Min(Vectors::RowOf(t, vector) + r, t.rows - 1);
    int16_t* const to = rows + r * t.head_dim;
    q_scale[r] =
        t.scale * kLog2E *
        ToInt16Row(t.q + row * t.q_stride + head * t.head_dim, t.head_dim, to);
    for (int i = 0; i < t.head_dim / 2; ++i) {
      __builtin_memcpy(q + i * stride + r, to + 2 * i, sizeof(*q));
    }
  }
}

// Divides out[head_dim, stride] by the sums, into the rows of a vector.
void UnpackOutput(const PrefillTile& t, int vector, int stride,
                  const float* out, const float* sum) {
  const int row = Vectors::RowOf(t, vector), rows = Min(kLanes, t.rows - row);
  float* const to = t.out + row * t.out_stride + vector % t.group * t.head_dim;
  const __m256 inverse = _mm256_div_ps(_mm256_set1_ps(1), _mm256_load_ps(sum));
  for (int i = 0; i < t.head_dim; i += kLanes) {
    __m256 values[kLanes];
    for (int x = 0; x < kLanes; ++x, out += stride) {
      values[x] = _mm256_mul_ps(_mm256_load_ps(out), inverse);
    }
    Transpose(values);
    for (int r = 0; r < rows; ++r) {
      _mm256_storeu_ps(to + r * t.out_stride + i, values[r]);
    }
  }
}

Columns ColumnsAt(const PrefillTile& t, int vector, PrefillScratch* s) {
  const int column = vector * kLanes;
  Columns c;
  c.q = reinterpret_cast<int32_t*>(s->q.data()) +
        size_t(column) * (t.head_dim / 2);
  c.scores = s->scores.data();
  c.probs = reinterpret_cast<int32_t*>(s->probs.data());
  c.q_scale = s->sums.data() + column;
  c.max = c.q_scale + t.group * kMaxQueryRows;
  c.sum = c.max + t.group * kMaxQueryRows;
  c.out = s->out.data() + size_t(column) * t.head_dim;
  c.head_dim = t.head_dim;
  c.fetches = vector == 0;
  for (int x = 0; x < kVectors; ++x) {
    c.see.Set(x, s->limits.data(), Vectors::RowOf(t, vector + x));
  }
  return c;
}

// Calls f(columns, vector) for all vectors of lanes, kVectors at a time.
template <class F>
inline void ForColumns(const PrefillTile& t, PrefillScratch* scratch,
                       const F& f) {
  Vectors::ForEach(
      t, [&](int vector) { f(ColumnsAt(t, vector, scratch), vector); });
}

void Begin(const PrefillTile& t, const Columns& c, int vector, int16_t* rows) {
  for (int x = 0; x < kVectors; ++x) {
    PackQueries(t, vector + x, kWidth, rows, c.q + x * kLanes,
                c.q_scale + x * kLanes);
  }
  for (int i = 0; i < kWidth; ++i) {
    c.max[i] = kNothingSeen;
    c.sum[i] = 0;
  }
  for (int i = 0; i < t.head_dim * kWidth; ++i) c.out[i] = 0;
}

void End(const PrefillTile& t, const Columns& c, int vector) {
  for (int x = 0; x < kVectors && vector + x < Vectors::Count(t); ++x) {
    UnpackOutput(t, vector + x, kWidth, c.out + x * kLanes, c.sum + x * kLanes);
    if (t.lse == nullptr) continue;
    const int row = Vectors::RowOf(t, vector + x),
              head = (vector + x) % t.group;
    for (int r = 0; r < Min(kLanes, t.rows - row); ++r) {
      const int i = x * kLanes + r;
      t.lse[(row + r) * t.lse_stride + head] = static_cast<float>(
          c.max[i] * std::log(2.0) + std::log(double{c.sum[i]}));
    }
  }
}

}  // namespace

void AttendPrefillInt16(const PrefillTile& t, const Int16Entries& entries,
                        PrefillScratch* scratch) {
  SetLimits(t, scratch->limits.data());
  auto* const rows = reinterpret_cast<int16_t*>(scratch->cut_keys.data());
  ForColumns(t, scratch,
             [&](const Columns& c, int vector) { Begin(t, c, vector, rows); });
  const int last = t.end[t.rows - 1];
  Block b;
  for (int block = t.BlockOf(t.begin[0]); block < last; block += kKeyBlock) {
    if (t.skips(block)) continue;
    SetBlock(t, entries, Max(block, 0), Min(block + kKeyBlock, last), &b);
    ForColumns(t, scratch, [&](const Columns& c, int) { AddBlock(c, b); });
  }
  ForColumns(t, scratch,
             [&](const Columns& c, int vector) { End(t, c, vector); });
}

}  // namespace pyramidkv

#pragma GCC pop_options
