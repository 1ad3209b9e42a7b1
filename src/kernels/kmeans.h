// Clusters of similar rows (k-means), made for thousands of keys and hundreds
// of clusters in every KV head.
//
// Sources: k-means++ (Arthur and Vassilvitskii, SODA 2007) for the start;
// mini-batch k-means (Sculley, WWW 2010) for the steps, if asked for.
// Departures: k-means++ draws up to 12 centroids at a time, at even distances
// of the cumulated sum, which makes the start one blocked matrix product and
// the first assignment a by-product; batches run through a shuffled copy
// instead of being drawn; at the end every row is assigned and the centroids
// are the plain means of their rows.
//
// One seed gives one result on every number of threads and on every SIMD
// target with fused multiply-add; on those without (SSE) a near-tie may fall
// the other way.
//
// Cost: about (iterations + 2) * 2 * n * clusters * dim flop.

#ifndef PYRAMIDKV_KERNELS_KMEANS_H_
#define PYRAMIDKV_KERNELS_KMEANS_H_

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace pyramidkv {

// Sum of squared distances against that of 20 Lloyd steps, and CPU time, on
// 3,000 keys before RoPE of SmolLM2-135M (30 heads, dim 64, Zen 4):
//
//   iterations, batch     400 clusters      100 clusters      40 clusters
//   0                     1.102  2.2 ms     1.165  1.1 ms     1.174  0.8 ms
//   1                     1.035  3.7 ms     1.067  1.5 ms     1.076  1.1 ms
//   2 (default)           1.014  5.4 ms     1.039  1.9 ms     1.044  1.3 ms
//   4                     1.003  8.4 ms     1.017  3.0 ms     1.021  1.6 ms
//   20                    1     33   ms     1     10.6 ms     1      5.6 ms
//   4, batch 1,024        1.026  5.9 ms
//   6, batch 512                            1.042  2.1 ms     1.039  1.3 ms
//
// After such a start batches save nothing up to 75 rows per cluster. Rows at
// even distances as a start end at 1.07, with some heads at 1.43; a start on
// a sample of 800 rows ends at 1.03, some heads at 1.3.
struct KMeansOptions {
  int iterations = 2;  // steps between the start and the final assignment
  int batch = 0;       // rows of a step; 0: all (Lloyd's steps)
  uint64_t seed = 0;
};

struct KMeansArgs {
  int n = 0;
  int dim = 0;
  const float* rows = nullptr;  // [n, dim]
  int clusters = 0;             // >= 1
  KMeansOptions options;
};

struct KMeansResult {
  int clusters = 0;              // <= args.clusters, each with a row
  std::vector<int> assignment;   // [n], each in [0, clusters)
  std::vector<float> centroids;  // [clusters, dim], means of their rows
};

// A cluster that stays empty takes the row that is farthest from its own
// centroid (ties: the lower row); with fewer different rows than clusters it
// is dropped. n <= clusters: row i is cluster i. Rows whose squared norm is
// not finite are far from everything: they share the last cluster, with a
// centroid of NaN, and do not disturb the others (with one cluster they join
// it and do not count in its centroid). Ties in distance go to the lower
// cluster.
//
// Thread safety: none needed, no state is shared. pool may be null, as inside
// a job that handles one head of many.
KMeansResult KMeans(const KMeansArgs& args, ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KMEANS_H_
