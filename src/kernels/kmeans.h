// Clusters of similar rows (k-means), made for thousands of keys and hundreds
// of clusters in every KV head.
//
// Sources: k-means++ (Arthur and Vassilvitskii, SODA 2007) for the start;
// mini-batch k-means (Sculley, WWW 2010) for the steps, if asked for.
// Departures: k-means++ draws up to 12 centroids between two comparisons with
// all rows (from the same distribution, see Draw), which makes the start one
// blocked matrix product and the first assignment a by-product; batches run
// through a shuffled copy instead of being drawn; at the end every row is
// assigned and the centroids are the plain means of their rows.
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

// Sum of squared distances, against that after 20 steps, and CPU time per KV
// head, for 3,000 keys before RoPE (SmolLM2-135M, English text, mean of 30
// heads, dim 64, Zen 4):
//
//   steps, batch     400 clusters      100 clusters      40 clusters
//   0                1.102  2.5 ms     1.166  1.1 ms     1.168  0.8 ms
//   1                1.036  4.2 ms     1.070  1.7 ms     1.074  1.1 ms
//   2 (default)      1.017  5.8 ms     1.041  2.0 ms     1.045  1.3 ms
//   4                1.004  9.0 ms     1.018  2.9 ms     1.022  2.0 ms
//   20               1       35 ms     1       10 ms     1      5.4 ms
//   4, 1,024         1.028  6.3 ms     1.042  2.2 ms     1.043  1.3 ms
//   12, 256          1.037  6.2 ms     1.052  2.0 ms     1.036  1.3 ms
//
// After such a start batches gain nothing before some 75 rows per cluster.
// Cheaper starts do not pay: rows at even distances are still at 1.09 after
// 20 steps (one head at 1.4), k-means++ on 800 of the rows is at 1.03 after 4
// (one head at 1.3), because either misses keys that lie far out.
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
// is dropped. n <= clusters: row i is cluster i. Ties in distance go to the
// lower cluster.
// Rows whose squared norm is NaN or above 1e37 are far from everything: they
// share the last cluster, with a centroid of NaN, and do not disturb the
// others (with one cluster they join it and do not count in its centroid).
//
// Thread safety: no state is shared. pool may be null, as inside a job that
// handles one head of many.
KMeansResult KMeans(const KMeansArgs& args, ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KMEANS_H_
