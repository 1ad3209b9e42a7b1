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

// Logits of the entries [begin, end); bias may be null.
std::vector<double> Logits(const float* q, const float* k, int begin, int end,
                           int head_dim, float scale, const float* bias) {
  std::vector<double> logits(end - begin);
  for (int j = begin; j < end; ++j) {
    logits[j - begin] = scale * Dot(q, k + size_t(j) * head_dim, head_dim) +
                        (bias != nullptr ? bias[j] : 0.0f);
  }
  return logits;
}

}  // namespace

void Attend(const float* q, const float* k, const float* v, int begin, int end,
            int head_dim, float scale, const float* bias, float* out) {
  const auto p = Probabilities(q, k, begin, end, head_dim, scale, bias);
  for (int c = 0; c < head_dim; ++c) {
    double sum = 0;
    for (int j = begin; j < end; ++j) {
      sum += p[j - begin] * v[size_t(j) * head_dim + c];
    }
    out[c] = static_cast<float>(sum);
  }
}

std::vector<double> Probabilities(const float* q, const float* k, int begin,
                                  int end, int head_dim, float scale,
                                  const float* bias) {
  auto p = Logits(q, k, begin, end, head_dim, scale, bias);
  Softmax(&p);
  return p;
}

float LogSumExp(const float* q, const float* k, int begin, int end,
                int head_dim, float scale, const float* bias) {
  const auto logits = Logits(q, k, begin, end, head_dim, scale, bias);
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double x : logits) sum += std::exp(x - max);
  return static_cast<float>(max + std::log(sum));
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

void ColumnAttention(const ColumnAttentionArgs& a) {
  for (int g = 0; g < a.group; ++g) {
    for (int j = a.from; j < a.to; ++j) {
      float* received = a.received + g * a.received_stride + j - a.from;
      double reduced = *received;
      for (int i = 0; i < a.rows; ++i) {
        const int entry = a.first_end + i - 1;  // the row's own
        if (j > entry || entry - j < a.min_distance) continue;
        const float* q = a.q + i * a.q_stride + size_t(g) * a.head_dim;
        const double logit =
            Logits(q, a.k, j, j + 1, a.head_dim, a.scale, a.bias)[0];
        const double p = std::exp(logit - a.lse[i * a.lse_stride + g]);
        reduced = a.max_rows ? std::max(reduced, p) : reduced + p;
      }
      *received = static_cast<float>(reduced);
    }
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
        const auto p =
            Probabilities(q, a.k[h], 0, n - a.rows + r + 1, a.head_dim, a.scale,
                          a.bias != nullptr ? a.bias[h] : nullptr);
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

void UpdateNearest(const NearestArgs& a, float* score, int32_t* index) {
  for (int r = 0; r < a.panels * kNearestRows; ++r) {
    const float* panel =
        a.rows + size_t(r / kNearestRows) * a.dim * kNearestRows;
    double best = score[r];
    for (int j = 0; j < a.centroids; ++j) {
      double sum = a.start[j];
      for (int c = 0; c < a.dim; ++c) {
        sum += double{panel[size_t(c) * kNearestRows + r % kNearestRows]} *
               a.centroid[size_t(j) * a.dim + c];
      }
      if (!(sum > best)) continue;
      best = sum;
      index[r] = a.first + j;
    }
    score[r] = static_cast<float>(best);
  }
}

}  // namespace pyramidkv::reference
