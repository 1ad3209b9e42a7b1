// The inputs of the golden vectors (tests/golden/vectors.md) and a window
// attention written out plainly, for tests.

#ifndef PYRAMIDKV_POLICY_TESTING_GOLDEN_H_
#define PYRAMIDKV_POLICY_TESTING_GOLDEN_H_

#include <cmath>
#include <vector>

namespace pyramidkv {

inline constexpr int kGoldenTokens = 16;
inline constexpr int kGoldenDim = 4;
inline constexpr int kGoldenWindow = 4;
inline constexpr int kGoldenPast = kGoldenTokens - kGoldenWindow;

inline double GoldenValue(int t, int d, int s) {
  return ((37 * t + 11 * d + 7 * s) % 17 - 8) / 8.0;
}

// [kGoldenTokens, kGoldenDim]: keys are Golden(1), queries A 2 * Golden(2)
// and queries B 2 * Golden(5).
inline std::vector<float> Golden(int s, double factor = 1) {
  std::vector<float> x;
  for (int t = 0; t < kGoldenTokens; ++t) {
    for (int d = 0; d < kGoldenDim; ++d) {
      x.push_back(static_cast<float>(factor * GoldenValue(t, d, s)));
    }
  }
  return x;
}

// Softmax of query i over the keys up to `end`, zero behind. q, k: rows of
// head_dim values.
inline std::vector<double> NaiveAttentionRow(const float* q, const float* k,
                                             int end, int n, int head_dim,
                                             double scale) {
  std::vector<double> row(n, 0.0);
  double sum = 0;
  for (int j = 0; j < end; ++j) {
    double dot = 0;
    for (int d = 0; d < head_dim; ++d) {
      dot += static_cast<double>(q[d]) * k[j * head_dim + d];
    }
    row[j] = std::exp(scale * dot);
    sum += row[j];
  }
  for (double& x : row) x /= sum;
  return row;
}

// Attention of the last `window` of n queries, summed over them: [n].
inline std::vector<double> NaiveWindowSums(const std::vector<float>& q,
                                           const std::vector<float>& k, int n,
                                           int head_dim, int window,
                                           double scale) {
  std::vector<double> sums(n, 0.0);
  for (int i = n - window; i < n; ++i) {
    const auto row = NaiveAttentionRow(q.data() + i * head_dim, k.data(), i + 1,
                                       n, head_dim, scale);
    for (int j = 0; j < n; ++j) sums[j] += row[j];
  }
  return sums;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_TESTING_GOLDEN_H_
