#include "policy/merge.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <numeric>

#include "base/check.h"
#include "kernels/kmeans.h"
#include "kernels/rope.h"

namespace pyramidkv {
namespace {

// Rounding must not part a key from a centroid that is equal to it.
constexpr double kCosineTolerance = 1e-6;

double Dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

class Merger {
 public:
  explicit Merger(const MergeArgs& args) : a_(args) {}
  MergedEntries Run(ThreadPool* pool);

 private:
  const float* key(int i) const { return a_.k + size_t(i) * a_.head_dim; }
  int count(int i) const { return a_.count.empty() ? 1 : a_.count[i]; }
  double bias(int i) const {
    return a_.bias.empty() ? std::log(count(i)) : a_.bias[i];
  }
  double tokens(int i) const {
    return a_.bias.empty() ? count(i) : std::exp(a_.bias[i]);
  }
  double score(int i) const {
    const float score = a_.score.empty() ? 0.0f : a_.score[i];
    return std::isfinite(score) ? std::max(0.0f, score) : 0.0f;
  }
  void DropFar(const float* centroid, std::vector<int>* members) const;
  std::vector<double> Weights(const std::vector<int>& members) const;
  void Append(const std::vector<int>& members);
  void AppendMean(const float* rows, const std::vector<int>& members,
                  const std::vector<double>& weights,
                  std::vector<float>* to) const;

  const MergeArgs& a_;
  MergedEntries out_;
};

void Merger::DropFar(const float* centroid, std::vector<int>* members) const {
  const double length = std::sqrt(Dot(centroid, centroid, a_.head_dim));
  std::erase_if(*members, [&](int i) {
    const double least = (a_.cosine - kCosineTolerance) * length *
                         std::sqrt(Dot(key(i), key(i), a_.head_dim));
    return !(Dot(key(i), centroid, a_.head_dim) >= least);
  });
}

// Of the members in their mean; the sum is 1.
std::vector<double> Merger::Weights(const std::vector<int>& members) const {
  std::vector<double> weights(members.size());
  double total = 0;
  if (a_.rule == MergeRule::kAttention) {
    for (size_t m = 0; m < members.size(); ++m) {
      total += weights[m] = score(members[m]);
    }
  }
  if (total <= 0) {
    for (size_t m = 0; m < members.size(); ++m) {
      total += weights[m] = tokens(members[m]);
    }
  }
  for (double& w : weights) w /= total;
  return weights;
}

// In double: the mean of equal rows is that row, to the last bit.
void Merger::AppendMean(const float* rows, const std::vector<int>& members,
                        const std::vector<double>& weights,
                        std::vector<float>* to) const {
  std::vector<double> mean(a_.head_dim);
  for (size_t m = 0; m < members.size(); ++m) {
    if (weights[m] == 0) continue;
    const float* row = rows + size_t(members[m]) * a_.head_dim;
    for (int c = 0; c < a_.head_dim; ++c) mean[c] += weights[m] * row[c];
  }
  for (double x : mean) to->push_back(static_cast<float>(x));
}

// members: ascending in position, at least one.
void Merger::Append(const std::vector<int>& members) {
  const std::vector<double> weights = Weights(members);
  AppendMean(a_.k, members, weights, &out_.k);
  AppendMean(a_.v, members, weights, &out_.v);
  double bias = 0, position = 0;
  int count = 0;
  for (size_t m = 0; m < members.size(); ++m) {
    const int i = members[m];
    count += this->count(i);
    position += weights[m] * a_.position[i];
    if (weights[m] > 0)
      bias += weights[m] * (this->bias(i) - std::log(weights[m]));
  }
  const auto distance = [&](int i) {
    return std::abs(a_.position[i] - position);
  };
  const int nearest = *std::min_element(
      members.begin(), members.end(),
      [&](int i, int j) { return distance(i) < distance(j); });
  out_.position.push_back(a_.position[nearest]);
  out_.count.push_back(count);
  out_.bias.push_back(static_cast<float>(bias));
}

MergedEntries SortedByPosition(const MergedEntries& in, int head_dim) {
  std::vector<int> order(in.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int i, int j) { return in.position[i] < in.position[j]; });
  MergedEntries out;
  for (int i : order) {
    const auto copy = [&](const std::vector<float>& from,
                          std::vector<float>* to) {
      const auto row = from.begin() + ptrdiff_t(i) * head_dim;
      to->insert(to->end(), row, row + head_dim);
    };
    copy(in.k, &out.k);
    copy(in.v, &out.v);
    out.position.push_back(in.position[i]);
    out.count.push_back(in.count[i]);
    out.bias.push_back(in.bias[i]);
  }
  return out;
}

MergedEntries Merger::Run(ThreadPool* pool) {
  std::vector<int> order(a_.n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int i, int j) { return a_.position[i] < a_.position[j]; });
  std::vector<float> keys;
  keys.reserve(size_t(a_.n) * a_.head_dim);
  for (int i : order) keys.insert(keys.end(), key(i), key(i) + a_.head_dim);
  KMeansArgs kmeans;
  kmeans.n = a_.n;
  kmeans.dim = a_.head_dim;
  kmeans.rows = keys.data();
  kmeans.clusters = a_.clusters;
  kmeans.options.seed = a_.seed;
  const KMeansResult found = KMeans(kmeans, pool);
  std::vector<std::vector<int>> members(found.clusters);
  for (int i = 0; i < a_.n; ++i)
    members[found.assignment[i]].push_back(order[i]);
  for (int j = 0; j < found.clusters; ++j) {
    if (a_.rule == MergeRule::kCosine && members[j].size() > 1) {
      DropFar(found.centroids.data() + size_t(j) * a_.head_dim, &members[j]);
    }
    if (!members[j].empty()) Append(members[j]);
  }
  return SortedByPosition(out_, a_.head_dim);
}

// Cosines and sines of positions as sums of two angles, so that thousands of
// positions take a few hundred calls of sin and cos. In double, and rounded
// once, as RopeTable does.
class AngleTable {
 public:
  AngleTable(std::span<const float> inv_freq, double sign)
      : inv_freq_(inv_freq), sign_(sign) {}

  // to [2, pairs]: cosines, then sines, as ApplyRope wants them.
  void Fill(int position, float* to) {
    const double* low = Row(position % kSplit, 1, &low_);
    const double* high = Row(position / kSplit, kSplit, &high_);
    const size_t pairs = inv_freq_.size();
    for (size_t i = 0; i < pairs; ++i) {
      const double a = low[i], b = low[pairs + i];
      const double c = high[i], d = high[pairs + i];
      to[i] = static_cast<float>(a * c - b * d);
      to[pairs + i] = static_cast<float>(sign_ * (a * d + b * c));
    }
  }

 private:
  static constexpr int kSplit = 64;
  using Rows = std::vector<std::vector<double>>;

  // [2, pairs] of position index * step, made when first asked for.
  const double* Row(size_t index, int step, Rows* rows) {
    if (rows->size() <= index) rows->resize(index + 1);
    std::vector<double>& row = (*rows)[index];
    if (row.empty()) {
      for (float f : inv_freq_)
        row.push_back(std::cos(double{f} * step * double(index)));
      for (float f : inv_freq_)
        row.push_back(std::sin(double{f} * step * double(index)));
    }
    return row.data();
  }

  std::span<const float> inv_freq_;
  const double sign_;
  Rows low_, high_;
};

void Turn(const KeyRotation& r, std::span<const int32_t> positions, double sign,
          float* k) {
  const int pairs = static_cast<int>(r.inv_freq.size());
  AngleTable angles(r.inv_freq, sign);
  std::vector<float> table(size_t(2) * pairs);
  for (size_t i = 0; i < positions.size(); ++i) {
    angles.Fill(positions[i], table.data());
    ApplyRope(table.data(), pairs, r.neox, 1, r.head_dim, k + i * r.head_dim);
  }
}

}  // namespace

MergedEntries MergeEvicted(const MergeArgs& args, ThreadPool* pool) {
  if (args.n == 0 || args.clusters <= 0) return {};
  return Merger(args).Run(pool);
}

void UnrotateKeys(const KeyRotation& rotation,
                  std::span<const int32_t> positions, float* k) {
  Turn(rotation, positions, -1, k);
}

void RotateKeys(const KeyRotation& rotation, std::span<const int32_t> positions,
                float* k) {
  Turn(rotation, positions, 1, k);
}

}  // namespace pyramidkv
