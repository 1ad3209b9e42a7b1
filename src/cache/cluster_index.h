// Keys by the nearest of their head's centroids: an entry is worth what the
// mean of its cluster is.
//
// 2 bytes per entry for its cluster, and head_dim + 6 for each cluster, of
// which there are as many as make it equal to the sign index (sign_index.h):
// about one for 9 entries.
//
// Source: ClusterKV (arXiv 2412.03213) and Squeezed Attention (arXiv
// 2411.09688): clusters of normalised keys, centroids the means of keys as
// they are. Departures: centroids are 8 bits, less the mean of all keys; whole
// blocks are chosen; later keys join the nearest centroid, which stays. The
// clusters are those of the first keys that come: bring as many as there are.

#ifndef PYRAMIDKV_CACHE_CLUSTER_INDEX_H_
#define PYRAMIDKV_CACHE_CLUSTER_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/key_index.h"

namespace pyramidkv {

class ClusterIndex : public KeyIndex {
 public:
  explicit ClusterIndex(int head_dim) : head_dim_(head_dim) {}

  // The first one costs a clustering (kernels/kmeans.h has times).
  void Append(const float* k, int count, size_t stride) override;
  void Score(const float* q, int group, std::vector<float>* scratch,
             float* best) const override;
  int length() const override { return static_cast<int>(cluster_.size()); }
  int64_t bytes() const override;
  KeyIndexState Export() const override;
  bool Import(KeyIndexState state) override;
  int clusters() const { return static_cast<int>(inverse_norm_.size()); }

 private:
  void MakeClusters(const float* k, int count, size_t stride);
  uint16_t NearestTo(const float* k, std::vector<float>* scores) const;
  // Blocks of centroids.
  int centroid_blocks() const {
    return (clusters() + kBlockEntries - 1) / kBlockEntries;
  }

  int head_dim_;
  std::vector<uint16_t> cluster_;     // [length]
  std::vector<float> mean_;           // [head_dim] of the first keys
  std::vector<std::byte> centroids_;  // less the mean; kernels/column_scores.h
  std::vector<float> inverse_norm_;   // [clusters] of whole centroids
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_CLUSTER_INDEX_H_
