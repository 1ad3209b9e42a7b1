// The nearest of many centroids for each of many rows: a matrix product whose
// result is not stored but reduced to an argmin, the inner loop of k-means
// (kernels/kmeans.h).
//
// Rows lie in the lanes, packed in panels of 16. A distance is then one chain
// of multiply-adds over the channels, with one result on every SIMD target
// that fuses them, and the argmin takes no step across lanes. Measured 100
// GFLOP/s per thread of a Zen 4 core at 3,000 rows, 400 centroids, dim 64
// (peak 117).

#ifndef PYRAMIDKV_KERNELS_NEAREST_H_
#define PYRAMIDKV_KERNELS_NEAREST_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

inline constexpr int kNearestRows = 16;
// Centroids come in multiples of this; padding has a start of -infinity.
inline constexpr int kNearestTile = 12;

constexpr int PaddedTo(int n, int multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// panel [dim, kNearestRows]: `count` (<= kNearestRows) of rows [count, dim],
// the other lanes zero.
void PackNearestRows(const float* rows, int count, int dim, float* panel);

struct NearestArgs {
  int panels = 0;
  int dim = 0;
  const float* rows = nullptr;      // [panels, dim, kNearestRows], aligned
  int centroids = 0;                // a multiple of kNearestTile
  const float* centroid = nullptr;  // [centroids, dim]
  const float* start = nullptr;     // [centroids] -|c|^2 / 2
  int first = 0;                    // index of the first of them
};

// Updates score and index [panels, kNearestRows], aligned: the largest
// x.c - |c|^2 / 2, that is (|x|^2 - distance^2) / 2, and the centroid's index.
// A result stays unless a centroid is strictly nearer, so ties go to the
// lower index. A NaN score of a centroid is never the largest.
void UpdateNearest(const NearestArgs& args, float* score, int32_t* index);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_NEAREST_H_
