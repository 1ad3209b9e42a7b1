#include "policy/key_norm.h"

#include <cmath>
#include <cstddef>

#include "base/check.h"

namespace pyramidkv {

double EuclideanNorm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

void KeyNormScores(std::span<const float> k, int n, int head_dim,
                   std::span<float> score) {
  DCHECK(k.size() == static_cast<size_t>(n) * head_dim);
  DCHECK(score.size() == static_cast<size_t>(n));
  for (int j = 0; j < n; ++j) {
    const auto key = k.subspan(static_cast<size_t>(j) * head_dim, head_dim);
    score[j] = static_cast<float>(-EuclideanNorm(key));
  }
}

}  // namespace pyramidkv
