#include "policy/scorers/redundancy.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "base/check.h"
#include "policy/gemm.h"
#include "policy/scorers/key_norm.h"

namespace pyramidkv {
namespace {

constexpr int kTile = 64;  // keys per side of a matrix product
constexpr double kLeastNorm = 1e-8;

// [n rounded up to kTile, head_dim]: directions, zero for keys that are not
// finite (their score[j] becomes NaN) and after n.
std::vector<float> UnitKeys(std::span<const float> k, int head_dim,
                            std::span<float> score) {
  const size_t n = score.size();
  std::vector<float> unit((n + kTile - 1) / kTile * kTile * head_dim);
  for (size_t j = 0; j < n; ++j) {
    const auto key = k.subspan(j * head_dim, head_dim);
    const double norm = EuclideanNorm(key);
    if (!std::isfinite(norm)) {
      score[j] = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    score[j] = 0;
    for (int d = 0; d < head_dim; ++d) {
      unit[j * head_dim + d] = static_cast<float>(key[d] / (norm + kLeastNorm));
    }
  }
  return unit;
}

// Sum in four lanes: a single one waits for itself.
double Sum(const float* x, int count) {
  double lanes[4] = {};
  int j = 0;
  for (; j + 4 <= count; j += 4) {
    for (int lane = 0; lane < 4; ++lane) lanes[lane] += x[j + lane];
  }
  for (; j < count; ++j) lanes[0] += x[j];
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// Each pair of keys is compared once and counts for both.
class Similarities {
 public:
  Similarities(int n, const RedundancyOptions& options)
      : n_(n), options_(options), sum_(n, 0.0), newest_(n, -1), cosine_(n) {}

  // The cosines [kTile, kTile] of rows `row`... with columns `column`... at
  // or after them. REQUIRES: in rising order of rows, then of columns; so
  // what is found last is the newest.
  void AddTile(const float* cosine, int row, int column) {
    const int rows = std::min(kTile, n_ - row);
    for (int i = row; i < row + rows; ++i, cosine += kTile) {
      const int begin = std::max(column, i + 1);
      const int64_t window_end = int64_t{i} + options_.window + 1;
      const int end = static_cast<int>(
          std::min<int64_t>(window_end, std::min(column + kTile, n_)));
      if (begin < end) AddRow(i, begin, end, cosine + (begin - column));
    }
  }

  // Mean over the rows within the window, without the newest duplicates.
  std::vector<double> Means() {
    for (int i = 0; i < n_; ++i) {
      if (newest_[i] >= 0) sum_[newest_[i]] -= cosine_[i];
    }
    for (int j = 0; j < n_; ++j) {
      const int before = std::min(j, options_.window);
      const int behind = std::min(n_ - 1 - j, options_.window);
      sum_[j] /= before + 1 + behind;
    }
    return std::move(sum_);
  }

 private:
  // Key i with the keys [begin, end) after it.
  void AddRow(int i, int begin, int end, const float* cosine) {
    const int count = end - begin;
    double* sum = sum_.data() + begin;
    int* newest = newest_.data() + begin;
    float* newest_cosine = cosine_.data() + begin;
    sum_[i] += Sum(cosine, count);
    for (int j = 0; j < count; ++j) sum[j] += cosine[j];
    for (int j = 0; j < count; ++j) {  // without a branch, so it vectorises
      const bool near = cosine[j] > options_.threshold;
      newest[j] = near ? i : newest[j];
      newest_cosine[j] = near ? cosine[j] : newest_cosine[j];
    }
    for (int j = count - 1; j >= 0; --j) {
      if (cosine[j] <= options_.threshold) continue;
      newest_[i] = begin + j;
      cosine_[i] = cosine[j];
      break;
    }
  }

  int n_;
  RedundancyOptions options_;
  std::vector<double> sum_;    // [n] over the rows seen of each column
  std::vector<int> newest_;    // [n] of each row: its last near duplicate
  std::vector<float> cosine_;  // [n] to that one
};

void SoftmaxOfNumbers(const std::vector<double>& x, std::span<float> out) {
  double sum = 0;  // x lies in [-1, 1]: no shift is needed
  for (size_t j = 0; j < x.size(); ++j) {
    if (!std::isnan(out[j])) sum += std::exp(x[j]);
  }
  for (size_t j = 0; j < x.size(); ++j) {
    if (!std::isnan(out[j])) out[j] = static_cast<float>(std::exp(x[j]) / sum);
  }
}

}  // namespace

void KeyRedundancy(std::span<const float> k, int n, int head_dim,
                   const RedundancyOptions& options,
                   std::span<float> redundancy) {
  DCHECK(k.size() == static_cast<size_t>(n) * head_dim);
  DCHECK(redundancy.size() == static_cast<size_t>(n));
  DCHECK(options.window >= 1);
  const std::vector<float> unit = UnitKeys(k, head_dim, redundancy);
  std::vector<float> cosine(kTile * kTile);
  Similarities similarities(n, options);
  for (int row = 0; row < n; row += kTile) {
    const int64_t end =
        std::min<int64_t>(n, int64_t{row} + kTile + options.window);
    for (int column = row; column < end; column += kTile) {
      Gemm({.m = kTile,
            .n = kTile,
            .k = head_dim,
            .a = {unit.data() + static_cast<size_t>(row) * head_dim, head_dim,
                  false},
            .b = {unit.data() + static_cast<size_t>(column) * head_dim,
                  head_dim, true},
            .c = cosine.data(),
            .c_stride = kTile});
      similarities.AddTile(cosine.data(), row, column);
    }
  }
  SoftmaxOfNumbers(similarities.Means(), redundancy);
}

void JointScores(std::span<const float> importance,
                 std::span<const float> redundancy, float lambda,
                 std::span<float> out) {
  DCHECK(importance.size() == redundancy.size());
  DCHECK(importance.size() == out.size());
  for (size_t j = 0; j < out.size(); ++j) {
    out[j] = lambda * importance[j] - (1 - lambda) * redundancy[j];
  }
}

}  // namespace pyramidkv
