#include "kernels/attention_prefill.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_prefill-inl.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_prefill.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kQueryTile>;
using V = hn::Vec<D>;

// Accumulators that fit the registers: kKeys * kVectors (+ operands).
#if HWY_TARGET <= HWY_AVX3
constexpr int kKeys = 8;
#else
constexpr int kKeys = 4;
#endif
constexpr int kVectors = 3;  // of lanes, which share each load of an entry
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kWidth = kVectors * kLanes;
static_assert(kKeyBlock % kKeys == 0);
// So the last kVectors of a call lie in its scratch, too.
static_assert(kMaxQueryRows % kWidth == 0);

// State of kVectors vectors of lanes.
struct Columns {
  const float* q;  // [head_dim, kWidth], scaled
  float* scores;   // [kKeyBlock, kWidth]
  float* max;      // [kWidth]
  float* sum;      // [kWidth]
  float* out;      // [head_dim, kWidth]
  int head_dim;
  bool fetches;  // the next block, for all columns
  LanesSee<kVectors, kLanes> see;
};

// Entries of a block, from `first` on.
struct Block {
  int first;
  const float* k;     // [.., head_dim]
  const float* v;     // [.., head_dim]
  const float* bias;  // [..], or null
};

// scores[j..] = bias[j..] + k[j..] . q for kNumKeys entries of a block.
template <int kNumKeys>
HWY_INLINE void ScoreTile(const Columns& c, const Block& b, int j) {
  const D d;
  V acc[kNumKeys][kVectors];
  for (int r = 0; r < kNumKeys; ++r) {
    const V start = hn::Set(d, b.bias != nullptr ? b.bias[j + r] : 0.0f);
    for (int x = 0; x < kVectors; ++x) acc[r][x] = start;
  }
  const float* k = b.k + size_t(j) * c.head_dim;
  const float* q = c.q;
  for (int i = 0; i < c.head_dim; ++i, q += kWidth) {
    V query[kVectors];
    for (int x = 0; x < kVectors; ++x) query[x] = hn::Load(d, q + x * kLanes);
    for (int r = 0; r < kNumKeys; ++r) {
      const V key = hn::Set(d, k[size_t(r) * c.head_dim + i]);
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] = hn::MulAdd(key, query[x], acc[r][x]);
      }
    }
  }
  float* scores = c.scores + size_t(j) * kWidth;
  for (int r = 0; r < kNumKeys; ++r) {
    for (int x = 0; x < kVectors; ++x) {
      hn::Store(acc[r][x], d, scores + r * kWidth + x * kLanes);
    }
  }
}

// Turns the scores [from, to) of vector x into probabilities relative to the
// new maximum and rescales what was summed before.
HWY_INLINE void Softmax(const Columns& c, int x, int from, int to) {
  const D d;
  float* const scores = c.scores + x * kLanes;
  const V old_max = hn::Load(d, c.max + x * kLanes);
  V max = old_max;
  for (int j = from; j < to; ++j) {
    max = hn::Max(max, hn::Load(d, scores + j * kWidth));
  }
  hn::Store(max, d, c.max + x * kLanes);
  // Nothing seen yet: the maximum is still the lowest float, and every
  // difference from it is exp'd to 0 below.
  const V rescale = FastExp(d, hn::Sub(old_max, max));
  V sum = hn::Mul(hn::Load(d, c.sum + x * kLanes), rescale);
  for (int j = from; j < to; ++j) {
    float* const s = scores + j * kWidth;
    const V p = FastExp(d, hn::Sub(hn::Load(d, s), max));
    hn::Store(p, d, s);
    sum = hn::Add(sum, p);
  }
  hn::Store(sum, d, c.sum + x * kLanes);
  // Exactly 1 where no maximum has changed.
  if (hn::AllTrue(d, hn::Eq(old_max, max))) return;
  for (int i = 0; i < c.head_dim; ++i) {
    float* const o = c.out + i * kWidth + x * kLanes;
    hn::Store(hn::Mul(hn::Load(d, o), rescale), d, o);
  }
}

// Fetches the part of the next block that belongs to the value tile at channel
// i, as if there were a next block, to the second-level cache.
HWY_INLINE void FetchAhead(const Block& b, int head_dim, int i) {
  constexpr int kLine = kAlignment / sizeof(float);
  const size_t part = size_t{kKeyBlock} * (head_dim + i);
  for (int x = 0; x < kKeyBlock * kKeys; x += kLine) {
    __builtin_prefetch(b.k + part + x, 0, 2);
    __builtin_prefetch(b.v + part + x, 0, 2);
  }
}

// Adds the values of the entries [from, to) times their probabilities.
HWY_INLINE void AddValues(const Columns& c, const Block& b, int from, int to) {
  const D d;
  for (int i = 0; i < c.head_dim; i += kKeys) {
    if (c.fetches) FetchAhead(b, c.head_dim, i);
    float* const out = c.out + size_t(i) * kWidth;
    V acc[kKeys][kVectors];
    for (int r = 0; r < kKeys; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        acc[r][x] = hn::Load(d, out + r * kWidth + x * kLanes);
      }
    }
    const float* value = b.v + size_t(from) * c.head_dim + i;
    const float* probs = c.scores + size_t(from) * kWidth;
    for (int j = from; j < to; ++j, probs += kWidth, value += c.head_dim) {
      V p[kVectors];
      for (int x = 0; x < kVectors; ++x) p[x] = hn::Load(d, probs + x * kLanes);
      for (int r = 0; r < kKeys; ++r) {
        const V v = hn::Set(d, value[r]);
        for (int x = 0; x < kVectors; ++x) {
          acc[r][x] = hn::MulAdd(v, p[x], acc[r][x]);
        }
      }
    }
    for (int r = 0; r < kKeys; ++r) {
      for (int x = 0; x < kVectors; ++x) {
        hn::Store(acc[r][x], d, out + r * kWidth + x * kLanes);
      }
    }
  }
}

void AddBlock(const Columns& c, const Block& b, int count) {
  const int from = std::max(c.see.first() - b.first, 0);
  const int to = std::min(c.see.last() - b.first, count);
  if (from >= to) return;
  int j = from;
  for (; j + kKeys <= to; j += kKeys) ScoreTile<kKeys>(c, b, j);
  for (; j < to; ++j) ScoreTile<1>(c, b, j);
  if (!c.see.all_see(b.first + from, b.first + to)) {
    c.see.Mask(b.first, from, to, c.scores);
  }
  for (int x = 0; x < kVectors; ++x) Softmax(c, x, from, to);
  AddValues(c, b, from, to);
}

using Vectors = FixedVectors<kVectors, kLanes>;

Columns ColumnsAt(const PrefillTile& t, int vector, PrefillScratch* s) {
  const int column = vector * kLanes;
  Columns c;
  c.q = s->q.data() + size_t(column) * t.head_dim;
  c.scores = s->scores.data();
  c.max = s->sums.data() + column;
  c.sum = c.max + t.group * kMaxQueryRows;
  c.out = s->out.data() + size_t(column) * t.head_dim;
  c.head_dim = t.head_dim;
  c.fetches = vector == 0;
  for (int x = 0; x < kVectors; ++x) {
    c.see.Set(x, s->limits.data(), Vectors::RowOf(t, vector + x));
  }
  return c;
}

void Begin(const PrefillTile& t, int vector, const Columns& c, float* q) {
  for (int column = 0; column < kWidth; ++column) {
    const int head = (vector + column / kLanes) % t.group;
    const int row =
        Vectors::RowOf(t, vector + column / kLanes) + column % kLanes;
    const float* from =
        t.q + std::min(row, t.rows - 1) * t.q_stride + head * t.head_dim;
    for (int i = 0; i < t.head_dim; ++i) {
      q[i * kWidth + column] = from[i] * t.scale;
    }
  }
  // Half the lowest float, so that a fully masked block (all scores at the
  // lowest) leaves the maximum alone and its differences far below zero.
  std::fill_n(c.max, kWidth, std::numeric_limits<float>::lowest() / 2);
  std::fill_n(c.sum, kWidth, 0.0f);
  std::fill_n(c.out, t.head_dim * kWidth, 0.0f);
}

void End(const PrefillTile& t, int vector, const Columns& c) {
  for (int column = 0; column < kWidth; ++column) {
    const int x = vector + column / kLanes;
    const int head = x % t.group, row = Vectors::RowOf(t, x) + column % kLanes;
    if (x >= Vectors::Count(t) || row >= t.rows) continue;
    const float inverse = 1.0f / c.sum[column];
    float* const to = t.out + row * t.out_stride + head * t.head_dim;
    for (int i = 0; i < t.head_dim; ++i) {
      to[i] = c.out[i * kWidth + column] * inverse;
    }
    if (t.lse == nullptr) continue;
    t.lse[row * t.lse_stride + head] = c.max[column] + std::log(c.sum[column]);
  }
}

// Calls f(columns, vector) for all vectors of lanes, kVectors at a time.
template <class F>
HWY_INLINE void ForColumns(const PrefillTile& t, PrefillScratch* scratch,
                           const F& f) {
  Vectors::ForEach(
      t, [&](int vector) { f(ColumnsAt(t, vector, scratch), vector); });
}

void AttendPrefillT(const PrefillTile& t, const float* k, const float* v,
                    PrefillScratch* scratch) {
  SetLimits(t, scratch->limits.data());
  ForColumns(t, scratch, [&](const Columns& c, int vector) {
    Begin(t, vector, c,
          scratch->q.data() + size_t(vector) * kLanes * t.head_dim);
  });
  const int last = t.end[t.rows - 1];
  for (int block = t.BlockOf(t.begin[0]); block < last; block += kKeyBlock) {
    if (t.skips(block)) continue;
    const int first = std::max(block, 0);
    const Block b = {first, k + size_t(first) * t.head_dim,
                     v + size_t(first) * t.head_dim,
                     t.bias != nullptr ? t.bias + first : nullptr};
    const int count = std::min(block + kKeyBlock, last) - first;
    ForColumns(t, scratch,
               [&](const Columns& c, int) { AddBlock(c, b, count); });
  }
  ForColumns(t, scratch,
             [&](const Columns& c, int vector) { End(t, vector, c); });
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {

HWY_EXPORT(AttendPrefillT);

void AttendPrefill(const PrefillTile& tile, const float* k, const float* v,
                   PrefillScratch* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendPrefillT)(tile, k, v, scratch);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
