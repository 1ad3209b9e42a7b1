#include "kernels/window_scores.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/aligned_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/window_scores.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

#ifndef PYRAMIDKV_KERNELS_WINDOW_SCORES_CHUNK_
#define PYRAMIDKV_KERNELS_WINDOW_SCORES_CHUNK_
namespace pyramidkv {

constexpr int kChunkRows = 16;  // window rows that lie in lanes at a time

// One query head: kChunkRows rows (those from `rows` on are padding).
struct WindowChunk {
  int n = 0;
  int head_dim = 0;
  int rows = 0;
  int first_end = 0;            // row r sees entries [0, first_end + r)
  const float* k = nullptr;     // [n, head_dim]
  const float* bias = nullptr;  // [n], or null
  const float* q = nullptr;     // [head_dim, kChunkRows], scaled
  float* s = nullptr;           // [n, kChunkRows] scratch
  bool max_rows = false;
  float weight = 0;          // 1 / rows of the whole window
  float* reduced = nullptr;  // [n], updated
  float* mean = nullptr;     // [n], updated
};

}  // namespace pyramidkv
#endif

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kChunkRows>;
using V = hn::Vec<D>;

constexpr int kVectors = kChunkRows / static_cast<int>(hn::MaxLanes(D()));
constexpr int kKeys = 8 / kVectors;  // eight accumulators

template <int kNumKeys>
HWY_INLINE void ScoreKeys(const WindowChunk& c, int j) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V acc[kNumKeys][kVectors];
  for (int a = 0; a < kNumKeys; ++a) {
    const V start = hn::Set(d, c.bias != nullptr ? c.bias[j + a] : 0.0f);
    for (int x = 0; x < kVectors; ++x) acc[a][x] = start;
  }
  const float* k = c.k + size_t(j) * c.head_dim;
  for (int i = 0; i < c.head_dim; ++i) {
    V q[kVectors];
    for (int x = 0; x < kVectors; ++x) {
      q[x] = hn::Load(d, c.q + size_t(i) * kChunkRows + x * lanes);
    }
    for (int a = 0; a < kNumKeys; ++a) {
      const V key = hn::Set(d, k[size_t(a) * c.head_dim + i]);
      for (int x = 0; x < kVectors; ++x) {
        acc[a][x] = hn::MulAdd(key, q[x], acc[a][x]);
      }
    }
  }
  for (int a = 0; a < kNumKeys; ++a) {
    for (int x = 0; x < kVectors; ++x) {
      hn::Store(acc[a][x], d, c.s + size_t(j + a) * kChunkRows + x * lanes);
    }
  }
}

// Softmax over the entries for every lane; s becomes probabilities.
void SoftmaxLanes(const WindowChunk& c) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (int x = 0; x < kVectors; ++x) {
    float* s = c.s + x * lanes;
    V max = hn::Load(d, s);
    for (int j = 1; j < c.n; ++j) {
      max = hn::Max(max, hn::Load(d, s + size_t(j) * kChunkRows));
    }
    V sum = hn::Zero(d);
    for (int j = 0; j < c.n; ++j) {
      float* p = s + size_t(j) * kChunkRows;
      const V e = FastExp(d, hn::Sub(hn::Load(d, p), max));
      hn::Store(e, d, p);
      sum = hn::Add(sum, e);
    }
    const V inverse = hn::Div(hn::Set(d, 1.0f), sum);
    for (int j = 0; j < c.n; ++j) {
      float* p = s + size_t(j) * kChunkRows;
      hn::Store(hn::Mul(hn::Load(d, p), inverse), d, p);
    }
  }
}

void ReduceRows(const WindowChunk& c) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  // Padding rows count for nothing.
  HWY_ALIGN float valid[kChunkRows];
  for (int r = 0; r < kChunkRows; ++r) valid[r] = r < c.rows ? 1.0f : 0.0f;
  for (int j = 0; j < c.n; ++j) {
    V sum = hn::Zero(d), max = hn::Zero(d);
    for (int x = 0; x < kVectors; ++x) {
      const V p = hn::Mul(hn::Load(d, c.s + size_t(j) * kChunkRows + x * lanes),
                          hn::Load(d, valid + x * lanes));
      sum = hn::Add(sum, p);
      max = hn::Max(max, p);
    }
    const float mean = hn::GetLane(hn::SumOfLanes(d, sum)) * c.weight;
    c.mean[j] += mean;
    if (c.max_rows) {
      c.reduced[j] =
          std::max(c.reduced[j], hn::GetLane(hn::MaxOfLanes(d, max)));
    } else {
      c.reduced[j] += mean;
    }
  }
}

void ScoreChunkT(const WindowChunk& c) {
  int j = 0;
  for (; j + kKeys <= c.n; j += kKeys) ScoreKeys<kKeys>(c, j);
  for (; j < c.n; ++j) ScoreKeys<1>(c, j);
  // Rows of the window do not see what comes after them.
  for (int r = 0; r < kChunkRows; ++r) {
    for (int e = c.first_end + r; e < c.n; ++e) {
      c.s[size_t(e) * kChunkRows + r] = std::numeric_limits<float>::lowest();
    }
  }
  SoftmaxLanes(c);
  ReduceRows(c);
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(ScoreChunkT);

struct Scratch {
  AlignedBuffer<float> q, s;
};

// All rows of one query head, reduced over rows.
void ScoreQueryHead(const WindowScoresArgs& a, int h, int g, Scratch* scratch,
                    float* reduced, float* mean) {
  const int n = a.n[h];
  scratch->q.Resize(size_t(a.head_dim) * kChunkRows);
  scratch->s.Resize(size_t(n) * kChunkRows);
  std::fill(reduced, reduced + n, 0.0f);
  std::fill(mean, mean + n, 0.0f);
  const size_t row_stride = size_t(a.kv_heads) * a.group * a.head_dim;
  const float* q = a.q + size_t(h * a.group + g) * a.head_dim;
  for (int first = 0; first < a.rows; first += kChunkRows) {
    WindowChunk c;
    c.rows = std::min(kChunkRows, a.rows - first);
    for (int r = 0; r < kChunkRows; ++r) {
      const float* row = q + (first + std::min(r, c.rows - 1)) * row_stride;
      for (int i = 0; i < a.head_dim; ++i) {
        scratch->q[size_t(i) * kChunkRows + r] = row[i] * a.scale;
      }
    }
    c.n = n;
    c.head_dim = a.head_dim;
    c.first_end = n - a.rows + first + 1;
    c.k = a.k[h];
    c.bias = a.bias != nullptr ? a.bias[h] : nullptr;
    c.q = scratch->q.data();
    c.s = scratch->s.data();
    c.max_rows = a.max_rows;
    c.weight = 1.0f / a.rows;
    c.reduced = reduced;
    c.mean = mean;
    HWY_DYNAMIC_DISPATCH(ScoreChunkT)(c);
  }
}

// In the order of the query heads, whichever was ready first.
void ReduceGroup(const WindowScoresArgs& a, int h,
                 const std::vector<AlignedBuffer<float>>& parts, float* score,
                 float* mass) {
  using Group = WindowScoresArgs::Group;
  const int n = a.n[h];
  const float share = 1.0f / a.group;
  const float weight = a.group_reduce == Group::kMean ? share : 1.0f;
  std::fill(score, score + n, 0.0f);
  if (mass != nullptr) std::fill(mass, mass + n, 0.0f);
  for (int g = 0; g < a.group; ++g) {
    const float* reduced = parts[h * a.group + g].data();
    const float* mean = reduced + n;
    for (int j = 0; j < n; ++j) {
      score[j] = a.group_reduce == Group::kMax ? std::max(score[j], reduced[j])
                                               : score[j] + reduced[j] * weight;
    }
    if (mass == nullptr) continue;
    for (int j = 0; j < n; ++j) mass[j] += mean[j] * share;
  }
}

}  // namespace

void WindowScores(const WindowScoresArgs& a, ThreadPool* pool,
                  float* const* score, float* const* mass) {
  const int heads = a.kv_heads * a.group;
  std::vector<Scratch> scratch(pool->threads());
  std::vector<AlignedBuffer<float>> parts(heads);
  pool->ParallelFor(heads, [&](int i, int worker) {
    const int h = i / a.group;
    parts[i].Resize(size_t(2) * a.n[h]);
    ScoreQueryHead(a, h, i % a.group, &scratch[worker], parts[i].data(),
                   parts[i].data() + a.n[h]);
  });
  pool->ParallelFor(a.kv_heads, [&](int h, int) {
    ReduceGroup(a, h, parts, score[h], mass != nullptr ? mass[h] : nullptr);
  });
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
