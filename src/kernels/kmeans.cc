#include "kernels/kmeans.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "kernels/nearest.h"

namespace pyramidkv {
namespace {

constexpr int kChunkPanels = 16;  // of one work item
constexpr int kMaxTries = 24;     // draws between two comparisons of all rows
// Scores of rows up to here stay finite.
constexpr double kLargestSquaredNorm = 1e37;

// The same numbers on every platform, which std:: distributions do not give.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  double Uniform() {  // in [0, 1)
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
  int Below(int n) { return static_cast<int>(Uniform() * n); }

 private:
  uint64_t state_;
};

double SquaredNorm(const float* x, int dim) {
  double sum = 0;
  for (int c = 0; c < dim; ++c) sum += double{x[c]} * x[c];
  return sum;
}

double SquaredDistance(const float* x, const float* y, int dim) {
  double sum = 0;
  for (int c = 0; c < dim; ++c) {
    const double off = double{x[c]} - y[c];
    sum += off * off;
  }
  return sum;
}

// Clusters some of the rows: more rows than clusters, all of them usable.
// Works on a shuffled copy, less the mean of the rows: keys may share an
// offset that is far longer than what tells them apart, and scores would lose
// the distances in rounding.
class Clustering {
 public:
  Clustering(const KMeansArgs& args, int clusters, std::vector<int> rows,
             ThreadPool* pool);
  void Run();
  // Appends the clusters, and fills the assignment of these rows.
  void Output(KMeansResult* result) const;

 private:
  const float* row(int i) const { return rows_.data() + size_t(i) * dim_; }
  const float* original(int i) const {
    return originals_ + size_t(order_[i]) * dim_;
  }
  float* centroid(int j) { return centroids_.data() + size_t(j) * dim_; }
  void Shuffle();
  void Copy();
  void Pack();
  void Start();
  int Draw(int placed, std::vector<double>* below);
  void Place(int j, const float* row);
  void Clear(int begin_panel, int end_panel);
  void Compare(int begin_panel, int end_panel, int begin, int end);
  void Assign(int begin_panel, int end_panel);
  void AssignAll();
  void Refill();
  void Add(int begin, int end);
  void MoveCentroids();
  void LloydStep();
  void BatchSteps(int batch_panels);

  const int n_, dim_, clusters_, padded_clusters_, panels_;
  const float* const originals_;
  const KMeansOptions options_;
  ThreadPool* const pool_;
  SplitMix64 random_;
  std::vector<int> order_;          // [n] row i is the original order_[i]
  std::vector<float> rows_;         // [n, dim]
  AlignedBuffer<float> packed_;     // [panels, dim, kNearestRows]
  std::vector<float> norm_;         // [n] squared
  AlignedBuffer<float> score_;      // [panels, kNearestRows], see nearest.h
  AlignedBuffer<int32_t> nearest_;  // [panels, kNearestRows]
  bool assigned_ = false;           // nearest_ belongs to these centroids
  std::vector<float> centroids_;    // [padded_clusters, dim]
  std::vector<float> start_;        // [padded_clusters], see nearest.h
  std::vector<double> sums_;        // [clusters, dim]
  std::vector<int> counts_;         // [clusters] rows in sums_
};

Clustering::Clustering(const KMeansArgs& args, int clusters,
                       std::vector<int> rows, ThreadPool* pool)
    : n_(static_cast<int>(rows.size())),
      dim_(args.dim),
      clusters_(clusters),
      padded_clusters_(PaddedTo(clusters, kNearestTile)),
      panels_(PaddedTo(n_, kNearestRows) / kNearestRows),
      originals_(args.rows),
      options_(args.options),
      pool_(pool),
      random_(args.options.seed),
      order_(std::move(rows)),
      rows_(size_t(n_) * dim_),
      packed_(size_t(panels_) * kNearestRows * dim_),
      norm_(n_),
      score_(size_t(panels_) * kNearestRows),
      nearest_(size_t(panels_) * kNearestRows),
      centroids_(size_t(padded_clusters_) * dim_),
      start_(padded_clusters_, -std::numeric_limits<float>::infinity()),
      sums_(size_t(clusters) * dim_),
      counts_(clusters) {}

void Clustering::Shuffle() {
  for (int i = n_ - 1; i > 0; --i) {
    std::swap(order_[i], order_[random_.Below(i + 1)]);
  }
}

void Clustering::Copy() {
  std::vector<double> mean(dim_);
  for (int i = 0; i < n_; ++i) {
    for (int c = 0; c < dim_; ++c) mean[c] += original(i)[c];
  }
  for (double& x : mean) x /= n_;
  for (int i = 0; i < n_; ++i) {
    float* to = rows_.data() + size_t(i) * dim_;
    for (int c = 0; c < dim_; ++c) {
      to[c] = static_cast<float>(original(i)[c] - mean[c]);
    }
    norm_[i] = static_cast<float>(SquaredNorm(to, dim_));
  }
}

void Clustering::Pack() {
  for (int p = 0; p < panels_; ++p) {
    const int first = p * kNearestRows;
    PackNearestRows(row(first), std::min(kNearestRows, n_ - first), dim_,
                    packed_.data() + size_t(first) * dim_);
  }
}

void Clustering::Place(int j, const float* row) {
  std::copy(row, row + dim_, centroid(j));
  start_[j] = static_cast<float>(-0.5 * SquaredNorm(row, dim_));
}

void Clustering::Clear(int begin_panel, int end_panel) {
  const int begin = begin_panel * kNearestRows, end = end_panel * kNearestRows;
  std::fill(score_.data() + begin, score_.data() + end,
            std::numeric_limits<float>::lowest());
  std::fill(nearest_.data() + begin, nearest_.data() + end, 0);
}

// Compares rows of these panels with the centroids of these tiles.
void Clustering::Compare(int begin_panel, int end_panel, int begin, int end) {
  NearestArgs tiles;
  tiles.dim = dim_;
  tiles.centroids = end - begin;
  tiles.centroid = centroid(begin);
  tiles.start = start_.data() + begin;
  tiles.first = begin;
  const auto chunk = [&](int i, int) {
    const int first = begin_panel + i * kChunkPanels;
    NearestArgs args = tiles;
    args.panels = std::min(kChunkPanels, end_panel - first);
    args.rows = packed_.data() + size_t(first) * kNearestRows * dim_;
    UpdateNearest(args, score_.data() + first * kNearestRows,
                  nearest_.data() + first * kNearestRows);
  };
  const int chunks =
      PaddedTo(end_panel - begin_panel, kChunkPanels) / kChunkPanels;
  if (pool_ != nullptr) {
    pool_->ParallelFor(chunks, chunk);
  } else {
    for (int i = 0; i < chunks; ++i) chunk(i, 0);
  }
}

void Clustering::Assign(int begin_panel, int end_panel) {
  Clear(begin_panel, end_panel);
  Compare(begin_panel, end_panel, 0, padded_clusters_);
}

void Clustering::AssignAll() {
  if (!assigned_) Assign(0, panels_);
  Refill();
}

// Places more centroids, a tile at most: k-means++ with one comparison of all
// rows for many draws. Rows are drawn by their squared distances from what was
// placed before; one that was placed meanwhile may be nearer to a drawn row,
// which is then taken with the share of its distance that is left. That is the
// distribution of drawing one by one. Returns how many are placed now.
int Clustering::Draw(int placed, std::vector<double>* below) {
  double total = 0;
  for (int i = 0; i < n_; ++i) {
    (*below)[i] = total += std::max(0.0f, norm_[i] - 2 * score_[i]);
  }
  if (total <= 0) return placed;
  const int first = placed;
  const int end =
      std::min(clusters_, (placed / kNearestTile + 1) * kNearestTile);
  for (int tries = 0; tries < kMaxTries && placed < end; ++tries) {
    const auto found = std::upper_bound(below->begin(), below->end(),
                                        random_.Uniform() * total);
    const int i = std::min(n_ - 1, static_cast<int>(found - below->begin()));
    const double before = norm_[i] - 2 * score_[i];
    double left = before;
    for (int j = first; j < placed; ++j) {
      left = std::min(left, SquaredDistance(row(i), centroid(j), dim_));
    }
    if (random_.Uniform() * before < left) Place(placed++, row(i));
  }
  return placed;
}

// Fewer different rows than clusters leave some of them without a centroid.
void Clustering::Start() {
  std::vector<double> below(n_);  // sum of the distances up to a row
  Clear(0, panels_);
  Place(0, row(0));  // rows are shuffled: as good as any
  int placed = 1, compared = 0;
  while (compared < placed) {
    const int tile = compared / kNearestTile * kNearestTile;
    Compare(0, panels_, tile, PaddedTo(placed, kNearestTile));
    compared = placed;
    if (placed < clusters_) placed = Draw(placed, &below);
  }
  assigned_ = true;
}

void Clustering::Add(int begin, int end) {
  for (int i = begin; i < end; ++i) {
    const float* x = row(i);
    double* sum = sums_.data() + size_t(nearest_[i]) * dim_;
    for (int c = 0; c < dim_; ++c) sum[c] += double{x[c]};
    ++counts_[nearest_[i]];
  }
}

void Clustering::MoveCentroids() {
  std::vector<float> mean(dim_);
  for (int j = 0; j < clusters_; ++j) {
    if (counts_[j] == 0) continue;
    const double* sum = sums_.data() + size_t(j) * dim_;
    for (int c = 0; c < dim_; ++c) {
      mean[c] = static_cast<float>(sum[c] / counts_[j]);
    }
    Place(j, mean.data());
  }
  assigned_ = false;
}

void Clustering::Refill() {
  std::vector<int> size(clusters_);
  for (int i = 0; i < n_; ++i) ++size[nearest_[i]];
  if (std::find(size.begin(), size.end(), 0) == size.end()) return;
  std::vector<std::pair<double, int>> far(n_);  // (-distance, row)
  for (int i = 0; i < n_; ++i) {
    far[i] = {-SquaredDistance(row(i), centroid(nearest_[i]), dim_), i};
  }
  std::sort(far.begin(), far.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.first, order_[a.second]) <
           std::pair(b.first, order_[b.second]);
  });
  auto next = far.begin();
  for (int j = 0; j < clusters_; ++j) {
    if (size[j] != 0) continue;
    while (next != far.end() && size[nearest_[next->second]] == 1) ++next;
    if (next == far.end() || next->first == 0) return;
    const int i = next++->second;
    --size[nearest_[i]];
    size[j] = 1;
    nearest_[i] = j;
  }
}

void Clustering::LloydStep() {
  AssignAll();
  std::fill(sums_.begin(), sums_.end(), 0.0);
  std::fill(counts_.begin(), counts_.end(), 0);
  Add(0, n_);
  MoveCentroids();
}

// A centroid is the mean of all rows that batches have ever given it, as with
// the learning rate 1 / count of the paper.
void Clustering::BatchSteps(int batch_panels) {
  int begin = 0;
  for (int s = 0; s < options_.iterations; ++s) {
    const int end = std::min(begin + batch_panels, panels_);
    Assign(begin, end);
    Add(begin * kNearestRows, std::min(end * kNearestRows, n_));
    MoveCentroids();
    begin = end == panels_ ? 0 : end;
  }
}

void Clustering::Run() {
  Shuffle();
  Copy();
  Pack();
  Start();
  const int batch_panels =
      PaddedTo(options_.batch, kNearestRows) / kNearestRows;
  if (batch_panels > 0 && batch_panels < panels_) {
    BatchSteps(batch_panels);
  } else {
    for (int s = 0; s < options_.iterations; ++s) LloydStep();
  }
  AssignAll();
}

// Sums are double: the mean of equal rows is that row, to the last bit.
void Clustering::Output(KMeansResult* result) const {
  std::vector<int> count(clusters_), number(clusters_);
  for (int i = 0; i < n_; ++i) ++count[nearest_[i]];
  for (int j = 0; j < clusters_; ++j) {
    if (count[j] > 0) number[j] = result->clusters++;
  }
  std::vector<double> means(size_t(result->clusters) * dim_);
  for (int i = 0; i < n_; ++i) {
    const int j = number[nearest_[i]];
    result->assignment[order_[i]] = j;
    double* mean = means.data() + size_t(j) * dim_;
    for (int c = 0; c < dim_; ++c) mean[c] += original(i)[c];
  }
  for (int j = 0; j < clusters_; ++j) {
    if (count[j] == 0) continue;
    const double* mean = means.data() + size_t(number[j]) * dim_;
    for (int c = 0; c < dim_; ++c) {
      result->centroids.push_back(static_cast<float>(mean[c] / count[j]));
    }
  }
}

void Separate(const KMeansArgs& args, const std::vector<int>& rows,
              KMeansResult* result) {
  for (int i : rows) {
    const float* row = args.rows + size_t(i) * args.dim;
    result->centroids.insert(result->centroids.end(), row, row + args.dim);
    result->assignment[i] = result->clusters++;
  }
}

}  // namespace

KMeansResult KMeans(const KMeansArgs& args, ThreadPool* pool) {
  DCHECK(args.clusters >= 1);
  std::vector<int> near, far;
  for (int i = 0; i < args.n; ++i) {
    const float* row = args.rows + size_t(i) * args.dim;
    const bool usable = SquaredNorm(row, args.dim) <= kLargestSquaredNorm;
    // Each row its own cluster: then none can disturb another.
    (usable || args.n <= args.clusters ? near : far).push_back(i);
  }
  const bool last_for_far = !far.empty() && args.clusters > 1;
  const int clusters = args.clusters - (last_for_far ? 1 : 0);
  KMeansResult result;
  result.assignment.resize(args.n);
  if (static_cast<int>(near.size()) <= clusters) {
    Separate(args, near, &result);
  } else {
    Clustering clustering(args, clusters, std::move(near), pool);
    clustering.Run();
    clustering.Output(&result);
  }
  if (far.empty()) return result;
  if (result.clusters < args.clusters) {
    result.centroids.insert(result.centroids.end(), args.dim,
                            std::numeric_limits<float>::quiet_NaN());
    ++result.clusters;
  }
  for (int i : far) result.assignment[i] = result.clusters - 1;
  return result;
}

}  // namespace pyramidkv
