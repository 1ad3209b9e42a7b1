#include "kernels/scalar_reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pyramidkv::reference {
namespace {

double Dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

void Softmax(std::vector<double>* x) {
  const double max = *std::max_element(x->begin(), x->end());
  double sum = 0;
  for (double& v : *x) sum += v = std::exp(v - max);
  for (double& v : *x) v /= sum;
}

}  // namespace

void Attend(const float* q, const float* k, const float* v, int begin, int end,
            int head_dim, float scale, const float* bias, float* out) {
  std::vector<double> p(end - begin);
  for (int j = begin; j < end; ++j) {
    p[j - begin] = scale * Dot(q, k + size_t(j) * head_dim, head_dim) +
                   (bias != nullptr ? bias[j] : 0.0f);
  }
  Softmax(&p);
  for (int c = 0; c < head_dim; ++c) {
    double sum = 0;
    for (int j = begin; j < end; ++j) {
      sum += p[j - begin] * v[size_t(j) * head_dim + c];
    }
    out[c] = static_cast<float>(sum);
  }
}

std::vector<float> MatMul(const float* x, const float* w, int m, int n, int k) {
  std::vector<float> y(size_t(m) * n);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      y[size_t(i) * n + j] =
          static_cast<float>(Dot(x + size_t(i) * k, w + size_t(j) * k, k));
    }
  }
  return y;
}

void RmsNorm(const float* x, const float* weight, int n, float epsilon,
             float* y) {
  const double scale = 1.0 / std::sqrt(Dot(x, x, n) / n + epsilon);
  for (int i = 0; i < n; ++i) {
    y[i] = static_cast<float>(x[i] * scale * weight[i]);
  }
}

void SiluMul(float* gate, const float* up, int n) {
  for (int i = 0; i < n; ++i) {
    const double g = gate[i];
    gate[i] = static_cast<float>(g / (1.0 + std::exp(-g)) * up[i]);
  }
}

void GeluMul(float* gate, const float* up, int n) {
  for (int i = 0; i < n; ++i) {
    const double g = gate[i];
    const double inner =
        std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g);
    gate[i] = static_cast<float>(0.5 * g * (1 + std::tanh(inner)) * up[i]);
  }
}

void SoftCap(float cap, int n, float* x) {
  for (int i = 0; i < n; ++i) {
    x[i] = static_cast<float>(cap * std::tanh(double{x[i]} / cap));
  }
}

void WindowScores(const WindowScoresArgs& a, float* const* score,
                  float* const* mass) {
  using Group = WindowScoresArgs::Group;
  for (int h = 0; h < a.kv_heads; ++h) {
    const int n = a.n[h];
    std::vector<double> reduced(n, 0.0), mean(n, 0.0);
    for (int g = 0; g < a.group; ++g) {
      std::vector<double> head(n, 0.0);
      for (int r = 0; r < a.rows; ++r) {
        const float* q =
            a.q +
            (size_t(r) * a.kv_heads * a.group + h * a.group + g) * a.head_dim;
        std::vector<double> p(n - a.rows + r + 1);
        for (size_t j = 0; j < p.size(); ++j) {
          p[j] = a.scale * Dot(q, a.k[h] + j * a.head_dim, a.head_dim);
        }
        Softmax(&p);
        for (size_t j = 0; j < p.size(); ++j) {
          head[j] =
              a.max_rows ? std::max(head[j], p[j]) : head[j] + p[j] / a.rows;
          mean[j] += p[j] / a.rows / a.group;
        }
      }
      for (int j = 0; j < n; ++j) {
        if (a.group_reduce == Group::kMax) {
          reduced[j] = std::max(reduced[j], head[j]);
        } else {
          reduced[j] +=
              a.group_reduce == Group::kMean ? head[j] / a.group : head[j];
        }
      }
    }
    for (int j = 0; j < n; ++j) {
      score[h][j] = static_cast<float>(reduced[j]);
      if (mass != nullptr) mass[h][j] = static_cast<float>(mean[j]);
    }
  }
}

}  // namespace pyramidkv::reference
