#include "kernels/attention_prefill.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_prefill.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Accumulators that fit the registers: kKeys * kVectors (+ operands).
#if HWY_TARGET <= HWY_AVX3
constexpr int kKeys = 8;
#else
constexpr int kKeys = 4;
#endif

// State of one tile. Columns are lanes: column g * kQueryTile + i is row i of
// query head g.
struct Columns {
  int count;       // group * kQueryTile
  const float* q;  // [head_dim, count], scaled
  float* scores;   // [kKeyBlock, count]
  float* max;      // [count]
  float* sum;      // [count]
  float* out;      // [head_dim, count]
};

// scores[j, c..] = bias[j] + k[j] . q[c..] for kNumKeys keys and kVectors
// vectors. bias: null for none.
template <int kNumKeys, int kVectors>
HWY_INLINE void ScoreTile(const Columns& c, int column, const float* k,
                          const float* bias, int head_dim, float* scores) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V acc[kNumKeys][kVectors];
  for (int j = 0; j < kNumKeys; ++j) {
    const V start = hn::Set(d, bias != nullptr ? bias[j] : 0.0f);
    for (int x = 0; x < kVectors; ++x) acc[j][x] = start;
  }
  for (int i = 0; i < head_dim; ++i) {
    V q[kVectors];
    for (int x = 0; x < kVectors; ++x) {
      q[x] = hn::Load(d, c.q + size_t(i) * c.count + column + x * lanes);
    }
    for (int j = 0; j < kNumKeys; ++j) {
      const V key = hn::Set(d, k[size_t(j) * head_dim + i]);
      for (int x = 0; x < kVectors; ++x) {
        acc[j][x] = hn::MulAdd(key, q[x], acc[j][x]);
      }
    }
  }
  for (int j = 0; j < kNumKeys; ++j) {
    for (int x = 0; x < kVectors; ++x) {
      hn::Store(acc[j][x], d, scores + size_t(j) * c.count + x * lanes);
    }
  }
}

template <int kVectors>
HWY_INLINE void ScoreColumns(const Columns& c, int column, const float* k,
                             const float* bias, int keys, int head_dim) {
  const auto from = [bias](int j) { return bias ? bias + j : nullptr; };
  int j = 0;
  for (; j + kKeys <= keys; j += kKeys) {
    ScoreTile<kKeys, kVectors>(c, column, k + size_t(j) * head_dim, from(j),
                               head_dim,
                               c.scores + size_t(j) * c.count + column);
  }
  for (; j < keys; ++j) {
    ScoreTile<1, kVectors>(c, column, k + size_t(j) * head_dim, from(j),
                           head_dim, c.scores + size_t(j) * c.count + column);
  }
}

// Turns scores into probabilities relative to the new maximum and rescales
// what was summed before.
HWY_INLINE void SoftmaxColumns(const Columns& c, int column, int keys,
                               int head_dim) {
  const D d;
  float* scores = c.scores + column;
  V max = hn::Load(d, c.max + column);
  const V old_max = max;
  for (int j = 0; j < keys; ++j) {
    max = hn::Max(max, hn::Load(d, scores + size_t(j) * c.count));
  }
  hn::Store(max, d, c.max + column);
  // Nothing seen yet: the maximum is still the lowest float, and every
  // difference from it is exp'd to 0 below.
  const V rescale = FastExp(d, hn::Sub(old_max, max));
  V sum = hn::Mul(hn::Load(d, c.sum + column), rescale);
  for (int j = 0; j < keys; ++j) {
    float* s = scores + size_t(j) * c.count;
    const V p = FastExp(d, hn::Sub(hn::Load(d, s), max));
    hn::Store(p, d, s);
    sum = hn::Add(sum, p);
  }
  hn::Store(sum, d, c.sum + column);
  for (int i = 0; i < head_dim; ++i) {
    float* o = c.out + size_t(i) * c.count + column;
    hn::Store(hn::Mul(hn::Load(d, o), rescale), d, o);
  }
}

// out[i.., column..] += v[j, i..] * p[j, column..] over the block's keys.
template <int kVectors>
HWY_INLINE void AddValues(const Columns& c, int column, const float* v,
                          int keys, int head_dim) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (int i = 0; i < head_dim; i += kKeys) {
    V acc[kKeys][kVectors];
    for (int r = 0; r < kKeys; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] =
            hn::Load(d, c.out + size_t(i + r) * c.count + column + x * lanes);
      }
    }
    for (int j = 0; j < keys; ++j) {
      V p[kVectors];
      for (int x = 0; x < kVectors; ++x) {
        p[x] = hn::Load(d, c.scores + size_t(j) * c.count + column + x * lanes);
      }
      for (int r = 0; r < kKeys; ++r) {
        const V value = hn::Set(d, v[size_t(j) * head_dim + i + r]);
        for (int x = 0; x < kVectors; ++x) {
          acc[r][x] = hn::MulAdd(value, p[x], acc[r][x]);
        }
      }
    }
    for (int r = 0; r < kKeys; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        hn::Store(acc[r][x], d,
                  c.out + size_t(i + r) * c.count + column + x * lanes);
      }
    }
  }
}

// Scores outside a row's range become the lowest float, which exp turns to 0.
void MaskBlock(const PrefillTile& t, const Columns& c, int first, int keys) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  for (int i = 0; i < t.rows; ++i) {
    const int low = std::clamp(t.begin[i] - first, 0, keys);
    const int high = std::clamp(t.end[i] - first, 0, keys);
    if (low == 0 && high == keys) continue;
    for (int g = 0; g < t.group; ++g) {
      float* s = c.scores + g * kQueryTile + i;
      for (int j = 0; j < low; ++j) s[size_t(j) * c.count] = kLowest;
      for (int j = high; j < keys; ++j) s[size_t(j) * c.count] = kLowest;
    }
  }
}

template <int kVectors>
HWY_INLINE void RunBlock(const PrefillTile& t, const Columns& c, int column,
                         const float* v, int first, int keys) {
  const size_t lanes = hn::Lanes(D());
  for (int x = 0; x < kVectors; ++x) {
    SoftmaxColumns(c, column + static_cast<int>(x * lanes), keys, t.head_dim);
  }
  AddValues<kVectors>(c, column, v + size_t(first) * t.head_dim, keys,
                      t.head_dim);
}

void PackQueries(const PrefillTile& t, float* q) {
  const int count = t.group * kQueryTile;
  for (int g = 0; g < t.group; ++g) {
    for (int i = 0; i < kQueryTile; ++i) {
      // Lanes without a row repeat the last one; nobody reads their result.
      const float* from =
          t.q + std::min(i, t.rows - 1) * t.q_stride + g * t.head_dim;
      float* to = q + g * kQueryTile + i;
      for (int x = 0; x < t.head_dim; ++x)
        to[size_t(x) * count] = from[x] * t.scale;
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
        to[x] = c.out[size_t(x) * c.count + column] * inverse;
      }
      if (t.lse == nullptr) continue;
      t.lse[i * t.lse_stride + g] = c.max[column] + std::log(c.sum[column]);
    }
  }
}

// Calls f.template operator()<kVectors>(column) over all columns, three
// vectors at a time.
template <class F>
HWY_INLINE void ForColumns(int count, const F& f) {
  const int lanes = static_cast<int>(hn::Lanes(D()));
  int column = 0;
  for (; column + 3 * lanes <= count; column += 3 * lanes) {
    f.template operator()<3>(column);
  }
  for (; column + 2 * lanes <= count; column += 2 * lanes) {
    f.template operator()<2>(column);
  }
  for (; column < count; column += lanes) f.template operator()<1>(column);
}

void AttendPrefillT(const PrefillTile& t, const float* k, const float* v,
                    PrefillScratch* scratch) {
  const int count = t.group * kQueryTile;
  PackQueries(t, scratch->q.data());
  const Columns c{count,
                  scratch->q.data(),
                  scratch->scores.data(),
                  scratch->sums.data(),
                  scratch->sums.data() + count,
                  scratch->out.data()};
  // Half the lowest float, so that a fully masked block (all scores at the
  // lowest) leaves the maximum alone and its differences far below zero.
  std::fill(c.max, c.max + count, std::numeric_limits<float>::lowest() / 2);
  std::fill(c.sum, c.sum + count, 0.0f);
  std::fill(c.out, c.out + size_t(t.head_dim) * count, 0.0f);

  const int last = t.end[t.rows - 1];
  for (int block = t.BlockOf(t.begin[0]); block < last; block += kKeyBlock) {
    if (t.skips(block)) continue;
    const int first = std::max(block, 0);
    const int keys = std::min(block + kKeyBlock, last) - first;
    const float* bias = t.bias != nullptr ? t.bias + first : nullptr;
    ForColumns(count, [&]<int kVectors>(int column) {
      ScoreColumns<kVectors>(c, column, k + size_t(first) * t.head_dim, bias,
                             keys, t.head_dim);
    });
    MaskBlock(t, c, first, keys);
    ForColumns(count, [&]<int kVectors>(int column) {
      RunBlock<kVectors>(t, c, column, v, first, keys);
    });
  }
  UnpackOutput(t, c);
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {

HWY_EXPORT(AttendPrefillT);

// Its arithmetic is too slow to wait for keys and values: one query tile
// after another.
void AttendPrefill(const PrefillTile& tile, const float* k, const float* v,
                   PrefillScratch* scratch) {
  PrefillTile part = tile;
  for (int row = 0; row < tile.rows; row += kQueryTile) {
    part.rows = std::min(kQueryTile, tile.rows - row);
    std::copy_n(tile.begin + row, part.rows, part.begin);
    std::copy_n(tile.end + row, part.rows, part.end);
    HWY_DYNAMIC_DISPATCH(AttendPrefillT)(part, k, v, scratch);
    part.q += kQueryTile * part.q_stride;
    part.out += kQueryTile * part.out_stride;
    if (part.lse != nullptr) part.lse += kQueryTile * part.lse_stride;
  }
}

bool HasNativeBf16() {
  return __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
