#include "kernels/nearest.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/nearest.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kNearestRows>;
using V = hn::Vec<D>;
using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;

constexpr int kVectors = kNearestRows / static_cast<int>(hn::MaxLanes(D()));
// Twelve accumulators; without vectors a centroid at a time.
constexpr int kTile = std::max(1, kNearestTile / kVectors);
static_assert(kNearestTile % kTile == 0);

// score = start + x.c of kTile centroids from `first` on.
HWY_INLINE void ScoreTile(const NearestArgs& a, const float* HWY_RESTRICT panel,
                          int first, V (&score)[kTile][kVectors]) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (int j = 0; j < kTile; ++j) {
    for (int x = 0; x < kVectors; ++x) {
      score[j][x] = hn::Set(d, a.start[first + j]);
    }
  }
  const float* centroid = a.centroid + size_t(first) * a.dim;
  for (int i = 0; i < a.dim; ++i) {
    V row[kVectors];
    for (int x = 0; x < kVectors; ++x) {
      row[x] = hn::Load(d, panel + size_t(i) * kNearestRows + x * lanes);
    }
    for (int j = 0; j < kTile; ++j) {
      const V value = hn::Set(d, centroid[size_t(j) * a.dim + i]);
      for (int x = 0; x < kVectors; ++x) {
        score[j][x] = hn::MulAdd(value, row[x], score[j][x]);
      }
    }
  }
}

void NearestOfPanel(const NearestArgs& a, const float* panel, float* score,
                    int32_t* index) {
  const D d;
  const DI di;
  const size_t lanes = hn::Lanes(d);
  V best[kVectors];
  VI whose[kVectors];
  for (int x = 0; x < kVectors; ++x) {
    best[x] = hn::Load(d, score + x * lanes);
    whose[x] = hn::Load(di, index + x * lanes);
  }
  for (int first = 0; first < a.centroids; first += kTile) {
    V tile[kTile][kVectors];
    ScoreTile(a, panel, first, tile);
    for (int j = 0; j < kTile; ++j) {
      const VI here = hn::Set(di, a.first + first + j);
      for (int x = 0; x < kVectors; ++x) {
        const auto nearer = hn::Gt(tile[j][x], best[x]);
        best[x] = hn::IfThenElse(nearer, tile[j][x], best[x]);
        whose[x] = hn::IfThenElse(hn::RebindMask(di, nearer), here, whose[x]);
      }
    }
  }
  for (int x = 0; x < kVectors; ++x) {
    hn::Store(best[x], d, score + x * lanes);
    hn::Store(whose[x], di, index + x * lanes);
  }
}

void UpdateNearestT(const NearestArgs& a, float* score, int32_t* index) {
  for (size_t p = 0; p < size_t(a.panels); ++p) {
    NearestOfPanel(a, a.rows + p * a.dim * kNearestRows,
                   score + p * kNearestRows, index + p * kNearestRows);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(UpdateNearestT);

}  // namespace

void PackNearestRows(const float* rows, int count, int dim, float* panel) {
  for (int r = 0; r < kNearestRows; ++r) {
    const float* row = r < count ? rows + size_t(r) * dim : nullptr;
    for (int c = 0; c < dim; ++c) {
      panel[size_t(c) * kNearestRows + r] = row != nullptr ? row[c] : 0.0f;
    }
  }
}

void UpdateNearest(const NearestArgs& args, float* score, int32_t* index) {
  HWY_DYNAMIC_DISPATCH(UpdateNearestT)(args, score, index);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
