// Making the matrices; skew_file.cc has the file.

#include "cache/skew.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace pyramidkv {
namespace {

constexpr int kMaxSweeps = 30;

using Matrix = std::vector<double>;  // [n, n]

bool IsFinite(const float* x, int n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

// Sum of x x^T over the rows.
Matrix Gram(const float* x, int rows, int n) {
  Matrix sum(size_t(n) * n);
  for (int r = 0; r < rows; ++r, x += n) {
    if (!IsFinite(x, n)) continue;
    for (int i = 0; i < n; ++i) {
      for (int j = i; j < n; ++j) sum[i * n + j] += double{x[i]} * x[j];
    }
  }
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < i; ++j) sum[i * n + j] = sum[j * n + i];
  }
  return sum;
}

// Rotates rows and columns p and q of `a` so that a[p][q] becomes 0, and rows
// p and q of `v` with them.
void RotatePair(int n, int p, int q, Matrix* a, Matrix* v) {
  double* m = a->data();
  const double theta = (m[q * n + q] - m[p * n + p]) / (2 * m[p * n + q]);
  const double t =
      (theta < 0 ? -1 : 1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (int i = 0; i < n; ++i) {
    const double x = m[i * n + p], y = m[i * n + q];
    m[i * n + p] = c * x - s * y;
    m[i * n + q] = s * x + c * y;
  }
  for (Matrix* rows : {a, v}) {
    double* at_p = rows->data() + p * n;
    double* at_q = rows->data() + q * n;
    for (int i = 0; i < n; ++i) {
      const double x = at_p[i], y = at_q[i];
      at_p[i] = c * x - s * y;
      at_q[i] = s * x + c * y;
    }
  }
}

// Eigenvectors of a symmetric matrix as rows, by cyclic Jacobi rotations. The
// largest value of each is positive (of equal ones the first).
Matrix Eigenvectors(int n, Matrix a) {
  Matrix v(size_t(n) * n);
  double trace = 0;
  for (int i = 0; i < n; ++i) {
    v[i * n + i] = 1;
    trace += std::fabs(a[i * n + i]);
  }
  const double small = trace / n * 1e-14;
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    for (int p = 0; p < n; ++p) {
      for (int q = p + 1; q < n; ++q) {
        if (!(std::fabs(a[p * n + q]) > small)) continue;
        RotatePair(n, p, q, &a, &v);
        rotated = true;
      }
    }
  }
  for (int i = 0; i < n; ++i) {
    double* row = v.data() + i * n;
    double* most = std::max_element(row, row + n, [](double x, double y) {
      return std::fabs(x) < std::fabs(y);
    });
    if (*most < 0) std::transform(row, row + n, row, std::negate<>());
  }
  return v;
}

// Root mean square of the rows' products with each of `directions`, less
// their mean if `centred`.
std::vector<double> Spread(const float* x, int rows, int n, bool centred,
                           const Matrix& directions) {
  std::vector<double> sum(n), squares(n);
  int counted = 0;
  for (int r = 0; r < rows; ++r, x += n) {
    if (!IsFinite(x, n)) continue;
    ++counted;
    for (int i = 0; i < n; ++i) {
      double dot = 0;
      for (int c = 0; c < n; ++c) dot += directions[i * n + c] * x[c];
      sum[i] += dot;
      squares[i] += dot * dot;
    }
  }
  counted = std::max(counted, 1);
  std::vector<double> spread(n);
  for (int i = 0; i < n; ++i) {
    const double mean = centred ? sum[i] / counted : 0;
    spread[i] = std::sqrt(std::max(0.0, squares[i] / counted - mean * mean));
  }
  return spread;
}

}  // namespace

void ComputeSkew(const float* q, int queries, const float* k, int keys,
                 int head_dim, float* skew) {
  const int n = head_dim;
  const Matrix v = Eigenvectors(n, Gram(q, queries, n));
  const std::vector<double> of_q = Spread(q, queries, n, false, v);
  const std::vector<double> of_k = Spread(k, keys, n, true, v);
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return of_q[a] * of_k[a] > of_q[b] * of_k[b];
  });
  for (int i = 0; i < n; ++i) {
    const double* row = v.data() + order[i] * n;
    std::transform(row, row + n, skew + i * n,
                   [](double x) { return static_cast<float>(x); });
  }
}

void SpreadPositions(const Rotation& rope, int rows, int heads, int head_dim,
                     int first, int span, float* x) {
  std::vector<float> table(2 * rope.pairs());
  for (int r = 0; r < rows; ++r, x += size_t(heads) * head_dim) {
    const auto to = static_cast<int>(int64_t{r} * span / rows);
    RopeTable(rope.inv_freq.data(), rope.pairs(), to - first - r, 1.0f,
              table.data());
    ApplyRope(table.data(), rope.pairs(), rope.neox, heads, head_dim, x);
  }
}

}  // namespace pyramidkv
