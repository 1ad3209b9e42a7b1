// The bf16 form of kernels/attention_prefill.h in AVX-512 BF16 intrinsics
// (kernels/avx512_bf16-inl.h).
//
// Scores become probabilities in the registers they were summed in, relative
// to a maximum that may be stale: only where a tile of kKeys entries exceeds
// it by far does a lane take that tile's maximum, and what the lane has summed
// is rescaled. Tiles begin at multiples of kKeys as blocks begin at multiples
// of kKeyBlock, so what a lane does follows from its own entries alone.

#include <immintrin.h>

#include <cmath>
#include <limits>

#include "kernels/attention_prefill-inl.h"
#include "kernels/attention_prefill.h"

#pragma GCC push_options
// The compiler's own AVX-512 headers start from undefined vectors.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

#include "kernels/avx512_bf16-inl.h"

namespace pyramidkv {
namespace {

constexpr int kKeys = kKeyTile;
constexpr int kChannels = 8;  // of a value tile
constexpr float kNothingSeen = std::numeric_limits<float>::lowest();
// A lane's probabilities of one tile may sum up to this: far from what a float
// holds, and 2^40 times as likely as the maximum is as exact as any other.
constexpr float kMaxTileSum = 1.0995116e12f;
static_assert(kLanes == kQueryTile);
static_assert(kKeyBlock % kKeys == 0);

// Some vectors of lanes, which share every load of a key or a value.
template <int kVectors>
struct Columns {
  static constexpr int kWidth = kVectors * kLanes;
  uint32_t* q;      // [head_dim / 2, kWidth] bf16 pairs, scaled
  uint32_t* probs;  // [kKeyBlock / 2, kWidth] bf16 pairs
  float* max;       // [kWidth]
  float* sum;       // [kWidth]
  float* out;       // [head_dim, kWidth]
  int head_dim;
  LanesSee<kVectors, kLanes> see;
};

// kKeys entries from `first` on.
struct Keys {
  const uint16_t* k;  // [kKeys, head_dim]
  const float* bias;  // [kKeys]
  int first;
};

inline int Pair(const uint16_t* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return pair;
}

// e^x in the lanes of `mask`, else 0: relative error below 3e-7 beside the
// rounding of x * log2(e), 0 far below -87 and infinite from 89 on. It keeps
// off the pipes of the products more than Exp does.
inline __m512 WideExp(__mmask16 mask, __m512 x) {
  const __m512 y = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF);
  __m512 p = _mm512_set1_ps(1.8775767e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.9893397e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5826318e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4015361e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9315308e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9999994e-1f));
  return _mm512_maskz_scalef_ps(mask, p, y);
}

// Upper halves of two vectors as pairs (low, high), rounded.
inline __m512i PackPairs(__m512 low, __m512 high) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i lo =
      _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(low), half), 16);
  const __m512i hi = _mm512_add_epi32(_mm512_castps_si512(high), half);
  return _mm512_mask_mov_epi16(hi, 0x55555555, lo);
}

// The rows of a vector that see `entry`.
inline __mmask16 Visible(const int* begin, const int* end, int entry) {
  const __m512i e = _mm512_set1_epi32(entry);
  return _mm512_mask_cmpgt_epi32_mask(
      _mm512_cmple_epi32_mask(_mm512_load_si512(begin), e),
      _mm512_load_si512(end), e);
}

template <int kVectors>
inline void Scores(const Columns<kVectors>& c, const Keys& keys,
                   __m512 (&acc)[kKeys][kVectors]) {
  for (int j = 0; j < kKeys; ++j) {
    const __m512 start = _mm512_set1_ps(keys.bias[j]);
    for (int x = 0; x < kVectors; ++x) acc[j][x] = start;
  }
  const uint32_t* q = c.q;
  const uint16_t* k = keys.k;
  const size_t stride = c.head_dim;
  for (int i = c.head_dim; i > 0; i -= 2, q += c.kWidth, k += 2) {
    __m512i qv[kVectors];
    for (int x = 0; x < kVectors; ++x) {
      qv[x] = _mm512_load_si512(q + x * kLanes);
    }
    for (int j = 0; j < kKeys; ++j) {
      const __m512i key = _mm512_set1_epi32(Pair(k + j * stride));
      for (int x = 0; x < kVectors; ++x) {
        acc[j][x] = DotPairs(acc[j][x], key, qv[x]);
      }
    }
  }
}

// Writes the probabilities of a tile and adds their sums; if a lane's sum is
// too large, marks it in `grown`, adds nothing and returns false.
template <int kVectors, bool kMasked>
[[gnu::noinline]] bool Probabilities(const Columns<kVectors>& c,
                                     const Keys& keys, uint32_t* probs,
                                     __mmask16* grown) {
  __m512 acc[kKeys][kVectors];
  Scores(c, keys, acc);
  __m512 max[kVectors], sum[kVectors];
  for (int x = 0; x < kVectors; ++x) {
    max[x] = _mm512_load_ps(c.max + x * kLanes);
    sum[x] = _mm512_setzero_ps();
  }
#pragma GCC unroll 8
  for (int j = 0; j < kKeys; j += 2) {
#pragma GCC unroll 3
    for (int x = 0; x < kVectors; ++x) {
      __mmask16 see[2] = {0xffff, 0xffff};
      if (kMasked) {
        see[0] = Visible(c.see.begin[x], c.see.end[x], keys.first + j);
        see[1] = Visible(c.see.begin[x], c.see.end[x], keys.first + j + 1);
      }
      const __m512 low = WideExp(see[0], _mm512_sub_ps(acc[j][x], max[x]));
      const __m512 high = WideExp(see[1], _mm512_sub_ps(acc[j + 1][x], max[x]));
      sum[x] = _mm512_add_ps(_mm512_add_ps(sum[x], low), high);
      _mm512_store_si512(probs + j / 2 * c.kWidth + x * kLanes,
                         PackPairs(low, high));
    }
  }
  const __m512 limit = _mm512_set1_ps(kMaxTileSum);
  unsigned any = 0;
  for (int x = 0; x < kVectors; ++x) {
    grown[x] = _mm512_cmp_ps_mask(sum[x], limit, _CMP_GT_OQ);
    any |= grown[x];
  }
  if (any != 0) return false;
  for (int x = 0; x < kVectors; ++x) {
    float* to = c.sum + x * kLanes;
    _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), sum[x]));
  }
  return true;
}

// Gives the marked lanes the maximum of a tile.
template <int kVectors>
[[gnu::noinline]] void RaiseMaximum(const Columns<kVectors>& c,
                                    const Keys& keys, const __mmask16* grown) {
  __m512 acc[kKeys][kVectors];
  Scores(c, keys, acc);
  for (int x = 0; x < kVectors; ++x) {
    const __m512 old_max = _mm512_load_ps(c.max + x * kLanes);
    __m512 max = old_max;
    for (int j = 0; j < kKeys; ++j) {
      const __mmask16 see =
          grown[x] & Visible(c.see.begin[x], c.see.end[x], keys.first + j);
      max = _mm512_mask_max_ps(max, see, max, acc[j][x]);
    }
    _mm512_store_ps(c.max + x * kLanes, max);
    const __m512 rescale = WideExp(0xffff, _mm512_sub_ps(old_max, max));
    const auto apply = [&](float* to) {
      const __m512 was = _mm512_load_ps(to);
      _mm512_store_ps(to, _mm512_mask_mul_ps(was, grown[x], was, rescale));
    };
    apply(c.sum + x * kLanes);
    for (int i = 0; i < c.head_dim; ++i) {
      apply(c.out + i * c.kWidth + x * kLanes);
    }
  }
}

// Adds the pairs [from, to) of a block; k, v: the block's. Meanwhile the next
// block is fetched, which as a whole takes a line for every step.
template <int kVectors>
void AddValues(const Columns<kVectors>& c, const uint16_t* k, const uint16_t* v,
               int from, int to) {
  const ptrdiff_t next = ptrdiff_t{kKeyBlock} * c.head_dim;
  for (int i = 0; i < c.head_dim; i += kChannels) {
    float* out = c.out + i * c.kWidth;
    __m512 acc[kChannels][kVectors];
    for (int r = 0; r < kChannels; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] = _mm512_load_ps(out + r * c.kWidth + x * kLanes);
      }
    }
    const uint32_t* probs = c.probs + from * c.kWidth;
    const uint16_t* value = v + 2 * (ptrdiff_t(from) * c.head_dim + i);
    const uint16_t* ahead = 2 * i < c.head_dim
                                ? k + next + 2 * i * kKeyBlock
                                : v + 2 * i * kKeyBlock;  // from v + next on
    for (int j = from; j < to; ++j, probs += c.kWidth) {
      _mm_prefetch(ahead + j * (kAlignment / sizeof(*ahead)), _MM_HINT_T1);
      __m512i p[kVectors];
      for (int x = 0; x < kVectors; ++x) {
        p[x] = _mm512_load_si512(probs + x * kLanes);
      }
      for (int r = 0; r < kChannels; ++r) {
        const __m512i pair = _mm512_set1_epi32(Pair(value + 2 * r));
        for (int x = 0; x < kVectors; ++x) {
          acc[r][x] = DotPairs(acc[r][x], pair, p[x]);
        }
      }
      value += 2 * c.head_dim;
    }
    for (int r = 0; r < kChannels; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        _mm512_store_ps(out + r * c.kWidth + x * kLanes, acc[r][x]);
      }
    }
  }
}

// All columns of a call share it.
struct Call {
  const PrefillTile& t;
  const uint16_t* k;
  const uint16_t* v;
  PrefillScratch* scratch;
  int last;  // the end of what the last row sees
};

// The tile of entries that begins at `first`, which may be cut at both ends.
Keys KeysAt(const Call& call, int first) {
  static constexpr float kNoBias[kKeys] = {};
  const PrefillTile& t = call.t;
  Keys keys{call.k + ptrdiff_t(first) * t.head_dim,
            t.bias != nullptr ? t.bias + first : kNoBias, first};
  if (first >= 0 && first + kKeys <= call.last) return keys;
  uint16_t* k = call.scratch->cut_keys.data();
  float* bias = call.scratch->cut_bias.data();
  __builtin_memset(k, 0, kKeys * t.head_dim * sizeof(uint16_t));
  __builtin_memset(bias, 0, kKeys * sizeof(float));
  const int from = Max(0, -first), to = Min(kKeys, call.last - first);
  __builtin_memcpy(k + from * t.head_dim, keys.k + from * t.head_dim,
                   (to - from) * t.head_dim * sizeof(uint16_t));
  if (t.bias != nullptr) {
    __builtin_memcpy(bias + from, keys.bias + from,
                     (to - from) * sizeof(float));
  }
  keys.k = k;
  keys.bias = bias;
  return keys;
}

template <int kVectors>
void AddBlock(const Call& call, const Columns<kVectors>& c, int block) {
  const uint16_t* k = call.k + ptrdiff_t(block) * c.head_dim;
  const uint16_t* v = call.v + ptrdiff_t(block) * c.head_dim;
  // Whole tiles that nobody sees are left out.
  const int skipped = Max(c.see.first() - block, 0) / kKeys * kKeys;
  const int end = Min(block + kKeyBlock, c.see.last());
  int added = Max(skipped, -block) / 2;  // pairs
  for (int first = block + skipped; first < end; first += kKeys) {
    const Keys keys = KeysAt(call, first);
    uint32_t* probs = c.probs + (first - block) / 2 * c.kWidth;
    const auto write = c.see.all_see(first, first + kKeys)
                           ? Probabilities<kVectors, false>
                           : Probabilities<kVectors, true>;
    __mmask16 grown[kVectors];
    if (write(c, keys, probs, grown)) continue;
    const int pairs = Max((first - block) / 2, added);
    AddValues(c, k, v, added, pairs);
    added = pairs;
    RaiseMaximum(c, keys, grown);
    write(c, keys, probs, grown);
  }
  if (end > block) AddValues(c, k, v, added, (end - block + 1) / 2);
}

// Rows become columns: four perfect shuffles of the 256 values.
inline void Transpose(__m512i (&m)[kLanes]) {
  const __m512i low =
      _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  for (int round = 0; round < 4; ++round) {
    __m512i to[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      to[2 * i] = _mm512_permutex2var_epi32(m[i], low, m[i + 8]);
      to[2 * i + 1] = _mm512_permutex2var_epi32(m[i], high, m[i + 8]);
    }
    for (int i = 0; i < kLanes; ++i) m[i] = to[i];
  }
}

// The first `count` lanes, none for a count below 1.
inline __mmask16 FirstLanes(int count) {
  return static_cast<__mmask16>((1u << Min(Max(count, 0), kLanes)) - 1);
}

// A vector's rows from `row` on of head `head` to q[head_dim / 2, stride].
void PackQueries(const PrefillTile& t, int head, int row, int stride,
                 uint32_t* q) {
  const __m512 scale = _mm512_set1_ps(t.scale);
  for (int i = 0; i < t.head_dim; i += 2 * kLanes) {
    const int channels = t.head_dim - i;
    __m512i pairs[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const float* from =
          t.q + Min(row + r, t.rows - 1) * t.q_stride + head * t.head_dim + i;
      const auto load = [&](int x) {
        return _mm512_mul_ps(
            _mm512_maskz_loadu_ps(FirstLanes(channels - x), from + x), scale);
      };
      pairs[r] = (__m512i)_mm512_cvtne2ps_pbh(load(kLanes), load(0));
    }
    Transpose(pairs);
    for (int x = 0; x < Min(kLanes, channels / 2); ++x, q += stride) {
      _mm512_store_si512(q, pairs[x]);
    }
  }
}

// Divides out[head_dim, stride] by the sums, into a vector's rows.
void UnpackOutput(const PrefillTile& t, int head, int row, int stride,
                  const float* out, const float* sum) {
  const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), _mm512_load_ps(sum));
  for (int i = 0; i < t.head_dim; i += kLanes) {
    const int channels = Min(kLanes, t.head_dim - i);
    __m512i values[kLanes];
    for (int x = 0; x < kLanes; ++x, out += stride) {
      values[x] =
          x < channels
              ? _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(out), inverse))
              : _mm512_setzero_si512();
    }
    Transpose(values);
    for (int r = 0; r < Min(kLanes, t.rows - row); ++r) {
      _mm512_mask_storeu_epi32(
          t.out + (row + r) * t.out_stride + head * t.head_dim + i,
          FirstLanes(channels), values[r]);
    }
  }
}

template <int kVectors>
Columns<kVectors> ColumnsAt(const PrefillTile& t, int vector,
                            PrefillScratch* s) {
  const int column = vector * kLanes;
  Columns<kVectors> c;
  c.q = reinterpret_cast<uint32_t*>(s->q.data()) +
        size_t(column) * (t.head_dim / 2);
  c.probs = reinterpret_cast<uint32_t*>(s->probs.data());
  c.max = s->sums.data() + column;
  c.sum = c.max + t.columns();
  c.out = s->out.data() + size_t(column) * t.head_dim;
  c.head_dim = t.head_dim;
  for (int x = 0; x < kVectors; ++x) {
    c.see.Set(x, s->limits.data(), (vector + x) / t.group * kLanes);
  }
  return c;
}

// Calls f(columns, vector) for all vectors of lanes, some at a time.
template <class F>
inline void ForColumns(const PrefillTile& t, PrefillScratch* scratch,
                       const F& f) {
  const int count = t.columns() / kLanes;
  int vector = 0;
  // Threes and twos: a single vector would wait for its sums.
  for (; count - vector == 3 || count - vector > 4; vector += 3) {
    f(ColumnsAt<3>(t, vector, scratch), vector);
  }
  for (; count - vector > 1; vector += 2) {
    f(ColumnsAt<2>(t, vector, scratch), vector);
  }
  if (count > vector) f(ColumnsAt<1>(t, vector, scratch), vector);
}

template <int kVectors>
void Begin(const PrefillTile& t, const Columns<kVectors>& c, int vector) {
  for (int x = 0; x < kVectors; ++x) {
    PackQueries(t, (vector + x) % t.group, (vector + x) / t.group * kLanes,
                c.kWidth, c.q + x * kLanes);
  }
  for (int i = 0; i < c.kWidth; ++i) {
    c.max[i] = kNothingSeen;
    c.sum[i] = 0;
  }
  for (int i = 0; i < t.head_dim * c.kWidth; ++i) c.out[i] = 0;
}

template <int kVectors>
void End(const PrefillTile& t, const Columns<kVectors>& c, int vector) {
  for (int x = 0; x < kVectors; ++x) {
    const int head = (vector + x) % t.group;
    const int row = (vector + x) / t.group * kLanes;
    UnpackOutput(t, head, row, c.kWidth, c.out + x * kLanes,
                 c.sum + x * kLanes);
    if (t.lse == nullptr) continue;
    for (int r = 0; r < Min(kLanes, t.rows - row); ++r) {
      const int i = x * kLanes + r;
      t.lse[(row + r) * t.lse_stride + head] =
          static_cast<float>(c.max[i] + std::log(double{c.sum[i]}));
    }
  }
}

}  // namespace

void AttendPrefillBf16(const PrefillTile& t, const uint16_t* k,
                       const uint16_t* v, PrefillScratch* scratch) {
  const Call call = {t, k, v, scratch, t.end[t.rows - 1]};
  SetLimits(t, scratch->limits.data());
  ForColumns(t, scratch,
             [&](const auto& c, int vector) { Begin(t, c, vector); });
  for (int block = t.BlockOf(t.begin[0]); block < call.last;
       block += kKeyBlock) {
    if (t.skips(block)) continue;
    ForColumns(t, scratch,
               [&](const auto& c, int) { AddBlock(call, c, block); });
  }
  ForColumns(t, scratch, [&](const auto& c, int vector) { End(t, c, vector); });
}

}  // namespace pyramidkv

#pragma GCC pop_options
