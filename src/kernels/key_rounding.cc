#include "kernels/key_rounding.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/kv_quant.h"

namespace pyramidkv {
namespace {

// Weights that change nothing but ties.
void SetNoWeights(int head_dim, float* mixed) {
  std::fill_n(mixed, head_dim, 0.0f);
  for (int i = 0; i < head_dim; i += RotationBlock(head_dim)) mixed[i] = 1.0f;
}

// A part of the mean weight: the queries to come may be larger in a channel
// than those that were seen.
constexpr double kLeastWeight = 0.05;

std::vector<float> Means(int head_dim, int rows, const float* k) {
  std::vector<double> sums(head_dim, 0.0);
  for (int r = 0; r < rows; ++r, k += head_dim) {
    for (int i = 0; i < head_dim; ++i) sums[i] += k[i];
  }
  std::vector<float> means(head_dim);
  for (int i = 0; i < head_dim; ++i) {
    means[i] = static_cast<float>(sums[i] / rows);
  }
  return means;
}

// Root mean squares of the queries by channel. Their squares would be the
// weights if the queries to come were like these; the roots err less.
std::vector<double> Weights(int head_dim, int queries, int group,
                            size_t q_stride, const float* q) {
  std::vector<double> weights(head_dim, 0.0);
  for (int r = 0; r < queries; ++r, q += q_stride) {
    for (int i = 0; i < group * head_dim; ++i) {
      weights[i % head_dim] += double{q[i]} * q[i];
    }
  }
  for (double& w : weights) w = std::sqrt(w);
  const double mean =
      std::accumulate(weights.begin(), weights.end(), 0.0) / head_dim;
  for (double& w : weights) w = std::max(w, kLeastWeight * mean);
  return weights;
}

}  // namespace

std::vector<float> FitKeyRounding(int head_dim, int rows, const float* k,
                                  int queries, int group, size_t q_stride,
                                  const float* q) {
  std::vector<float> rounding = Means(head_dim, rows, k);
  const auto weights = Weights(head_dim, queries, group, q_stride, q);
  const int block = RotationBlock(head_dim);
  for (int first = 0; first < head_dim; first += block) {
    const double sum = std::accumulate(weights.begin() + first,
                                       weights.begin() + first + block, 0.0);
    for (int i = 0; i < block; ++i) {
      rounding.push_back(static_cast<float>(weights[first + i] / sum));
    }
  }
  float* const mixed = rounding.data() + head_dim;
  RotateChannels(head_dim, mixed);
  const float norm = std::sqrt(static_cast<float>(block));
  for (int i = 0; i < head_dim; ++i) mixed[i] *= norm;
  if (IsKeyRounding(rounding, head_dim)) return rounding;
  std::fill(rounding.begin(), rounding.end(), 0.0f);
  SetNoWeights(head_dim, mixed);
  return rounding;
}

std::vector<float> FitKeyMeans(int head_dim, int rows, const float* k) {
  std::vector<float> rounding = Means(head_dim, rows, k);
  rounding.resize(2 * size_t(head_dim));
  SetNoWeights(head_dim, rounding.data() + head_dim);
  if (!IsKeyRounding(rounding, head_dim)) {
    std::fill_n(rounding.begin(), head_dim, 0.0f);
  }
  return rounding;
}

bool HasWeights(std::span<const float> rounding, int head_dim) {
  const float* const mixed = rounding.data() + head_dim;
  for (int i = 0; i < head_dim; ++i) {
    if (mixed[i] != (i % RotationBlock(head_dim) == 0 ? 1.0f : 0.0f)) {
      return true;
    }
  }
  return false;
}

bool IsKeyRounding(std::span<const float> rounding, int head_dim) {
  constexpr float kSlack = 1e-3f;
  if (rounding.size() != 2 * size_t(head_dim)) return false;
  for (float mean : rounding.first(head_dim)) {
    if (!std::isfinite(mean)) return false;
  }
  const auto mixed = rounding.last(head_dim);
  for (int i = 0; i < head_dim; ++i) {
    if (!(std::fabs(mixed[i]) <= 1 + kSlack)) return false;
    if (i % RotationBlock(head_dim) == 0 && mixed[i] < 1 - kSlack) return false;
  }
  return true;
}

float QueryShift(const float* rounding, int head_dim, const float* q) {
  float shift = 0;
  for (int i = 0; i < head_dim; ++i) shift += q[i] * rounding[i];
  return shift;
}

void AddKeyMean(const float* rounding, int head_dim, int rows, float* k) {
  for (int r = 0; r < rows; ++r, k += head_dim) {
    for (int i = 0; i < head_dim; ++i) k[i] += rounding[i];
  }
}

}  // namespace pyramidkv
