#include "policy/merge.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

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

// One merged entry in the making.
struct Group {
  std::vector<int> members;     // ascending in position
  std::vector<double> weights;  // [members], sum 1
  int32_t position = 0;
};

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
    return a_.bias.empty() ? count(i) : std::exp(double{a_.bias[i]});
  }
  double score(int i) const {
    const float score = a_.score.empty() ? 0.0f : a_.score[i];
    return std::isfinite(score) ? std::max(0.0f, score) : 0.0f;
  }
  std::vector<Group> Clusters(ThreadPool* pool) const;
  void DropFar(const float* centroid, std::vector<int>* members) const;
  void Weigh(Group* group) const;
  void Place(Group* group) const;
  void Append(const Group& group);
  void AppendMean(const float* rows, const Group& group,
                  std::vector<float>* to) const;

  const MergeArgs& a_;
  MergedEntries out_;
};

// k-means over the keys in order of position.
std::vector<Group> Merger::Clusters(ThreadPool* pool) const {
  std::vector<int> order(a_.n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int i, int j) { return a_.position[i] < a_.position[j]; });
  std::vector<float> keys;
  keys.reserve(size_t(a_.n) * a_.head_dim);
  for (int i : order) keys.insert(keys.end(), key(i), key(i) + a_.head_dim);
  KMeansArgs args;
  args.n = a_.n;
  args.dim = a_.head_dim;
  args.rows = keys.data();
  args.clusters = a_.clusters;
  args.options.seed = a_.seed;
  const KMeansResult found = KMeans(args, pool);
  std::vector<Group> groups(found.clusters);
  for (int i = 0; i < a_.n; ++i) {
    groups[found.assignment[i]].members.push_back(order[i]);
  }
  if (a_.rule != MergeRule::kCosine) return groups;
  for (int j = 0; j < found.clusters; ++j) {
    DropFar(found.centroids.data() + size_t(j) * a_.head_dim,
            &groups[j].members);
  }
  std::erase_if(groups, [](const Group& g) { return g.members.empty(); });
  return groups;
}

// A key of zeros joins, a centroid of zeros is near nothing else.
void Merger::DropFar(const float* centroid, std::vector<int>* members) const {
  if (members->size() == 1) return;  // there is nothing to be far from
  const double length = std::sqrt(Dot(centroid, centroid, a_.head_dim));
  std::erase_if(*members, [&](int i) {
    const double own = std::sqrt(Dot(key(i), key(i), a_.head_dim));
    if (own == 0) return false;
    const double cosine = Dot(key(i), centroid, a_.head_dim) / (own * length);
    return !(length > 0 && cosine >= a_.cosine - kCosineTolerance);
  });
}

void Merger::Weigh(Group* group) const {
  double total = 0;
  if (a_.rule == MergeRule::kAttention) {
    for (int i : group->members) {
      total += group->weights.emplace_back(score(i));
    }
  }
  if (total <= 0) {
    group->weights.clear();
    for (int i : group->members) {
      total += group->weights.emplace_back(tokens(i));
    }
  }
  for (double& w : group->weights) w /= total;
}

void Merger::Place(Group* group) const {
  double mean = 0;
  for (size_t m = 0; m < group->members.size(); ++m) {
    mean += group->weights[m] * a_.position[group->members[m]];
  }
  const int nearest = *std::min_element(
      group->members.begin(), group->members.end(), [&](int i, int j) {
        return std::abs(a_.position[i] - mean) <
               std::abs(a_.position[j] - mean);
      });
  group->position = a_.position[nearest];
}

// In double: the mean of equal rows is that row, to the last bit.
void Merger::AppendMean(const float* rows, const Group& group,
                        std::vector<float>* to) const {
  std::vector<double> mean(a_.head_dim);
  for (size_t m = 0; m < group.members.size(); ++m) {
    const double weight = group.weights[m];
    if (weight == 0) continue;
    const float* row = rows + size_t(group.members[m]) * a_.head_dim;
    for (int c = 0; c < a_.head_dim; ++c) mean[c] += weight * row[c];
  }
  for (double x : mean) to->push_back(static_cast<float>(x));
}

void Merger::Append(const Group& group) {
  AppendMean(a_.k, group, &out_.k);
  AppendMean(a_.v, group, &out_.v);
  out_.position.push_back(group.position);
  int sum = 0;
  double mean_bias = 0;
  for (size_t m = 0; m < group.members.size(); ++m) {
    const int i = group.members[m];
    const double weight = group.weights[m];
    sum += count(i);
    if (weight > 0) mean_bias += weight * (bias(i) - std::log(weight));
  }
  out_.count.push_back(sum);
  out_.bias.push_back(static_cast<float>(mean_bias));
}

MergedEntries Merger::Run(ThreadPool* pool) {
  std::vector<Group> groups = Clusters(pool);
  for (Group& group : groups) {
    Weigh(&group);
    Place(&group);
  }
  std::sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
    return a.position < b.position;
  });
  for (const Group& group : groups) Append(group);
  return std::move(out_);
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
      const double at = static_cast<double>(step) * static_cast<double>(index);
      for (float f : inv_freq_) row.push_back(std::cos(f * at));
      for (float f : inv_freq_) row.push_back(std::sin(f * at));
    }
    return row.data();
  }

  std::span<const float> inv_freq_;
  const double sign_;
  Rows low_, high_;
};

void Turn(const Rotation& r, int head_dim, std::span<const int32_t> positions,
          double sign, float* k) {
  AngleTable angles(r.inv_freq, sign);
  std::vector<float> table(size_t(2) * r.pairs());
  for (size_t i = 0; i < positions.size(); ++i) {
    angles.Fill(positions[i], table.data());
    ApplyRope(table.data(), r.pairs(), r.neox, 1, head_dim, k + i * head_dim);
  }
}

}  // namespace

MergedEntries MergeEvicted(const MergeArgs& args, ThreadPool* pool) {
  if (args.n == 0 || args.clusters <= 0) return {};
  return Merger(args).Run(pool);
}

void UnrotateKeys(const Rotation& rotation, int head_dim,
                  std::span<const int32_t> positions, float* k) {
  Turn(rotation, head_dim, positions, -1, k);
}

void RotateKeys(const Rotation& rotation, int head_dim,
                std::span<const int32_t> positions, float* k) {
  Turn(rotation, head_dim, positions, 1, k);
}

}  // namespace pyramidkv
