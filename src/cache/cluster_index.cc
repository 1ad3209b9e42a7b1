#include "cache/cluster_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cache/index_bytes.h"
#include "kernels/column_scores.h"
#include "kernels/kmeans.h"

namespace pyramidkv {
namespace {

constexpr int kMaxClusters = 65535;

// So many that the index has the bytes of a sign index: its signs pay for the
// centroids.
int ClustersFor(int count, int head_dim) {
  const int64_t room = int64_t{count} * (head_dim / 8);
  const int64_t clusters = room / (head_dim + 6);
  return static_cast<int>(std::clamp<int64_t>(clusters, 1, kMaxClusters));
}

float InverseNorm(const float* x, int dim) {
  double square = 0;
  for (int c = 0; c < dim; ++c) square += double{x[c]} * x[c];
  return square > 0 ? static_cast<float>(1 / std::sqrt(square)) : 0.0f;
}

}  // namespace

void ClusterIndex::MakeClusters(const float* k, int count, size_t stride) {
  mean_ = MeanOfRows(k, count, head_dim_, stride);
  std::vector<float> rows(size_t(count) * head_dim_);
  for (int e = 0; e < count; ++e) {
    const float inverse = InverseNorm(k + e * stride, head_dim_);
    for (int c = 0; c < head_dim_; ++c) {
      rows[size_t(e) * head_dim_ + c] = k[e * stride + c] * inverse;
    }
  }
  KMeansArgs args;
  args.n = count;
  args.dim = head_dim_;
  args.rows = rows.data();
  args.clusters = ClustersFor(count, head_dim_);
  const KMeansResult result = KMeans(args, nullptr);
  cluster_.assign(result.assignment.begin(), result.assignment.end());
  // Centroids of the keys as they are.
  std::vector<double> sum(size_t(result.clusters) * head_dim_);
  std::vector<int> size(result.clusters);
  for (int e = 0; e < count; ++e) {
    const int j = cluster_[e];
    ++size[j];
    for (int c = 0; c < head_dim_; ++c) {
      sum[size_t(j) * head_dim_ + c] += k[e * stride + c];
    }
  }
  inverse_norm_.resize(result.clusters);
  centroids_.resize(centroid_blocks() * ColumnBlockBytes(head_dim_));
  std::vector<float> centroid(head_dim_);
  for (int j = 0; j < result.clusters; ++j) {
    for (int c = 0; c < head_dim_; ++c) {
      centroid[c] =
          static_cast<float>(sum[size_t(j) * head_dim_ + c] / size[j]);
    }
    inverse_norm_[j] = InverseNorm(centroid.data(), head_dim_);
    for (int c = 0; c < head_dim_; ++c) centroid[c] -= mean_[c];
    StoreColumns(
        centroid.data(), head_dim_, j % kBlockEntries,
        centroids_.data() + j / kBlockEntries * ColumnBlockBytes(head_dim_));
  }
}

// By cosine, as the clusters were made.
uint16_t ClusterIndex::NearestTo(const float* k,
                                 std::vector<float>* scores) const {
  scores->resize(size_t(centroid_blocks()) * kBlockEntries);
  ColumnScores({head_dim_, centroids_.data(), centroid_blocks(), k, 1},
               scores->data());
  double with_mean = 0;
  for (int c = 0; c < head_dim_; ++c) with_mean += double{k[c]} * mean_[c];
  int best = 0;
  float most = std::numeric_limits<float>::lowest();
  for (int j = 0; j < clusters(); ++j) {
    const float cosine =
        ((*scores)[j] + static_cast<float>(with_mean)) * inverse_norm_[j];
    if (cosine > most) {
      most = cosine;
      best = j;
    }
  }
  return static_cast<uint16_t>(best);
}

void ClusterIndex::Append(const float* k, int count, size_t stride) {
  if (count == 0) return;
  if (cluster_.empty()) return MakeClusters(k, count, stride);
  std::vector<float> scores;
  const size_t first = cluster_.size();
  GrowTo(first + count, &cluster_);
  for (int e = 0; e < count; ++e) {
    cluster_[first + e] = NearestTo(k + e * stride, &scores);
  }
}

void ClusterIndex::Score(const float* q, int group, std::vector<float>* scratch,
                         float* best) const {
  const size_t stride = size_t(centroid_blocks()) * kBlockEntries;
  float* scores = ScratchOf(group * stride, scratch);
  ColumnScores({head_dim_, centroids_.data(), centroid_blocks(), q, group},
               scores);
  for (int g = 0; g < group; ++g, scores += stride) {
    for (int b = 0; b < blocks(); ++b) {
      const int first = b * kBlockEntries;
      const int end = std::min(first + kBlockEntries, length());
      float most = std::numeric_limits<float>::lowest();
      for (int e = first; e < end; ++e) {
        most = std::max(most, scores[cluster_[e]]);
      }
      *best++ = most;
    }
  }
}

int64_t ClusterIndex::bytes() const {
  return static_cast<int64_t>(
      cluster_.capacity() * sizeof(uint16_t) + centroids_.capacity() +
      (mean_.capacity() + inverse_norm_.capacity()) * sizeof(float) +
      sizeof(*this));
}

KeyIndexState ClusterIndex::Export() const {
  KeyIndexState state;
  state.length = length();
  state.mean = mean_;
  state.codes = centroids_;
  state.clusters = cluster_;
  state.inverse_norms = inverse_norm_;
  return state;
}

bool ClusterIndex::Import(KeyIndexState s) {
  const size_t clusters = s.inverse_norms.size();
  const size_t blocks = (clusters + kBlockEntries - 1) / kBlockEntries;
  if (s.length < 0 || s.clusters.size() != size_t(s.length) ||
      (clusters == 0) != (s.length == 0) || clusters > kMaxClusters ||
      s.mean.size() != size_t(s.length > 0 ? head_dim_ : 0) ||
      s.codes.size() != blocks * ColumnBlockBytes(head_dim_) ||
      !AreFinite(s.mean) || !AreFinite(s.inverse_norms) ||
      std::any_of(s.clusters.begin(), s.clusters.end(),
                  [clusters](uint16_t c) { return c >= clusters; })) {
    return false;
  }
  mean_ = std::move(s.mean);
  centroids_ = std::move(s.codes);
  cluster_ = std::move(s.clusters);
  inverse_norm_ = std::move(s.inverse_norms);
  return true;
}

}  // namespace pyramidkv
