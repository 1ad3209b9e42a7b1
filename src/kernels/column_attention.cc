#include "kernels/column_attention.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/column_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

constexpr int kVectors = 3;  // of entries in a tile
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kWidth = kVectors * kLanes;
static_assert(kColumnBlock % kWidth == 0);

// Accumulators that fit the registers: kRows * kVectors (+ operands).
#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = kColumnRows;
#else
constexpr int kRows = kColumnRows / 2;
#endif

// Rows of one query head on the kWidth entries from `first` on.
struct Tile {
  const float* q;  // row r at q + r * q_stride, scaled
  size_t q_stride;
  const float* lse;   // [kColumnRows]
  const int* limits;  // row r gives to the entries before limits[r]
  const float* k;     // [head_dim, kWidth]
  const float* bias;  // [kWidth]
  int first;
  int head_dim;
  bool max_rows;
  float* sums;  // [kWidth], updated
};

// Rows [row, row + kRows), the first kCount vectors of entries.
template <int kCount>
HWY_INLINE void RunTile(const Tile& t, int row) {
  const D d;
  V acc[kRows][kCount];
  for (int r = 0; r < kRows; ++r) {
    const V lse = hn::Set(d, t.lse[row + r]);
    for (int x = 0; x < kCount; ++x) {
      acc[r][x] = hn::Sub(hn::Load(d, t.bias + x * kLanes), lse);
    }
  }
  const float* q = t.q + row * t.q_stride;
  for (int i = 0; i < t.head_dim; ++i) {
    V k[kCount];
    for (int x = 0; x < kCount; ++x) {
      k[x] = hn::Load(d, t.k + size_t(i) * kWidth + x * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const V query = hn::Set(d, q[r * t.q_stride + i]);
      for (int x = 0; x < kCount; ++x) {
        acc[r][x] = hn::MulAdd(k[x], query, acc[r][x]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const int limit = t.limits[row + r] - t.first;
    for (int x = 0; x < kCount; ++x) {
      const int visible = std::clamp(limit - x * kLanes, 0, kLanes);
      const V p =
          hn::IfThenElseZero(hn::FirstN(d, visible), FastExp(d, acc[r][x]));
      float* sums = t.sums + x * kLanes;
      const V sum = hn::Load(d, sums);
      hn::Store(t.max_rows ? hn::Max(sum, p) : hn::Add(sum, p), d, sums);
    }
  }
}

// K of the columns [from, to) as [block of kWidth][head_dim, kWidth], zeros
// after the last.
void PackKeys(const ColumnAttentionArgs& a, int from, int to, float* k) {
  const int padded = (to - from + kWidth - 1) / kWidth * kWidth;
  for (int j = 0; j < padded; ++j) {
    float* out = k + size_t(j / kWidth) * a.head_dim * kWidth + j % kWidth;
    const float* key = a.k + size_t(std::min(from + j, to - 1)) * a.head_dim;
    for (int i = 0; i < a.head_dim; ++i) {
      out[size_t(i) * kWidth] = from + j < to ? key[i] : 0.0f;
    }
  }
}

// Queries of kColumnRows rows, scaled; rows after the last give nothing.
void PackRows(const ColumnAttentionArgs& a, int first, ColumnScratch* scratch,
              int* limits) {
  const int width = a.group * a.head_dim;
  for (int r = 0; r < kColumnRows; ++r) {
    const int row = std::min(first + r, a.rows - 1);
    limits[r] = first + r < a.rows ? a.limit(row) : 0;
    const float* q = a.q + row * a.q_stride;
    float* out = scratch->q.data() + size_t(r) * width;
    for (int i = 0; i < width; ++i) out[i] = q[i] * a.scale;
    for (int g = 0; g < a.group; ++g) {
      scratch->lse[g * kColumnRows + r] = a.lse[row * a.lse_stride + g];
    }
  }
}

void ColumnBlockT(const ColumnAttentionArgs& a, int from, int to,
                  ColumnScratch* scratch) {
  PackKeys(a, from, to, scratch->k.data());
  float* bias = scratch->sums.data() + size_t(a.group) * kColumnBlock;
  int limits[kColumnRows];
  Tile t;
  t.q_stride = size_t(a.group) * a.head_dim;
  t.limits = limits;
  t.head_dim = a.head_dim;
  t.max_rows = a.max_rows;
  for (int row = a.first_row(from); row < a.rows; row += kColumnRows) {
    PackRows(a, row, scratch, limits);
    const int end =
        std::min(to, a.limit(std::min(row + kColumnRows, a.rows) - 1));
    for (t.first = from; t.first < end; t.first += kWidth) {
      const size_t column = t.first - from;
      t.k = scratch->k.data() + column * a.head_dim;
      t.bias = bias + column;
      for (int g = 0; g < a.group; ++g) {
        t.q = scratch->q.data() + size_t(g) * a.head_dim;
        t.lse = scratch->lse.data() + g * kColumnRows;
        t.sums = scratch->sums.data() + g * kColumnBlock + column;
        for (int r = 0; r < kColumnRows; r += kRows) {
          if (end - t.first > 2 * kLanes) {
            RunTile<3>(t, r);
          } else if (end - t.first > kLanes) {
            RunTile<2>(t, r);
          } else {
            RunTile<1>(t, r);
          }
        }
      }
    }
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(ColumnBlockT);

// Sums of the block as they stand, zero after the last column, and biases
// after the sums of the last head.
void BeginBlock(const ColumnAttentionArgs& a, int from, int to,
                ColumnScratch* scratch) {
  const int columns = to - from;
  scratch->Resize(a.group, a.head_dim);
  std::fill(scratch->sums.span().begin(), scratch->sums.span().end(), 0.0f);
  for (int g = 0; g < a.group; ++g) {
    std::copy_n(a.received + g * a.received_stride + from - a.from, columns,
                scratch->sums.data() + size_t(g) * kColumnBlock);
  }
  if (a.bias == nullptr) return;
  std::copy_n(a.bias + from, columns,
              scratch->sums.data() + size_t(a.group) * kColumnBlock);
}

void RunBlock(const ColumnAttentionArgs& a, int block, ColumnScratch* scratch) {
  const int from = a.from + block * kColumnBlock;
  const int to = std::min(from + kColumnBlock, a.to);
  if (a.first_row(from) >= a.rows) return;
  BeginBlock(a, from, to, scratch);
  switch (a.form) {
    case AttentionForm::kBf16:
      ColumnBlockBf16(a, from, to, scratch);
      break;
    case AttentionForm::kInt16:
    case AttentionForm::kF32:
      HWY_DYNAMIC_DISPATCH(ColumnBlockT)(a, from, to, scratch);
      break;
  }
  for (int g = 0; g < a.group; ++g) {
    std::copy_n(scratch->sums.data() + size_t(g) * kColumnBlock, to - from,
                a.received + g * a.received_stride + from - a.from);
  }
}

int Blocks(const ColumnAttentionArgs& a) {
  return (a.to - a.from + kColumnBlock - 1) / kColumnBlock;
}

}  // namespace

void ColumnAttention(const ColumnAttentionArgs& args, ColumnScratch* scratch) {
  for (int b = 0; b < Blocks(args); ++b) RunBlock(args, b, scratch);
}

void ColumnAttention(std::span<const ColumnAttentionArgs> heads,
                     ThreadPool* pool) {
  int blocks = 0;
  for (const ColumnAttentionArgs& a : heads) {
    blocks = std::max(blocks, Blocks(a));
  }
  const int count = static_cast<int>(heads.size());
  std::vector<ColumnScratch> scratch(pool->threads());
  // The first columns are seen by the most rows: all heads begin with them.
  pool->ParallelFor(blocks * count, [&](int i, int worker) {
    const ColumnAttentionArgs& a = heads[i % count];
    if (i / count < Blocks(a)) RunBlock(a, i / count, &scratch[worker]);
  });
}

void ReduceReceived(const float* received, size_t stride, int group, int n,
                    WindowScoresArgs::Group reduce, float* out) {
  using Group = WindowScoresArgs::Group;
  std::copy_n(received, n, out);
  for (int g = 1; g < group; ++g) {
    const float* head = received + g * stride;
    for (int j = 0; j < n; ++j) {
      out[j] =
          reduce == Group::kMax ? std::max(out[j], head[j]) : out[j] + head[j];
    }
  }
  if (reduce != Group::kMean) return;
  const float share = 1.0f / static_cast<float>(group);
  for (int j = 0; j < n; ++j) out[j] *= share;
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
