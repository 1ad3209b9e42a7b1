#include "cache/key_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "cache/key_index.h"

namespace pyramidkv {
namespace {

// Enough to split by: the exact direction gains nothing.
constexpr int kPowerSteps = 3;

class Splitter {
 public:
  Splitter(const float* k, int count, int head_dim)
      : k_(k),
        head_dim_(head_dim),
        mean_(head_dim),
        direction_(head_dim),
        sum_(head_dim),
        along_(count) {}

  void Split(std::span<int> keys) {
    const auto n = static_cast<int>(keys.size());
    if (n <= kBlockEntries) return std::sort(keys.begin(), keys.end());
    Centre(keys);
    for (int step = 0; step < kPowerSteps; ++step) {
      Project(keys);
      direction_ = sum_;
    }
    Project(keys);
    // Whole blocks on the left.
    const int half =
        (n / 2 + kBlockEntries - 1) / kBlockEntries * kBlockEntries;
    std::nth_element(
        keys.begin(), keys.begin() + half, keys.end(), [&](int a, int b) {
          return along_[a] != along_[b] ? along_[a] < along_[b] : a < b;
        });
    Split(keys.first(half));
    Split(keys.subspan(half));
  }

 private:
  const float* row(int key) const { return k_ + size_t(key) * head_dim_; }

  // The mean, and the way from it to the key farthest off as a direction to
  // start with.
  void Centre(std::span<const int> keys) {
    std::fill(mean_.begin(), mean_.end(), 0.0f);
    for (int key : keys) {
      for (int c = 0; c < head_dim_; ++c) mean_[c] += row(key)[c];
    }
    for (float& m : mean_) m /= static_cast<float>(keys.size());
    float farthest = -1;
    for (int key : keys) {
      float distance = 0;
      for (int c = 0; c < head_dim_; ++c) {
        const float x = row(key)[c] - mean_[c];
        distance += x * x;
      }
      if (!(distance > farthest)) continue;
      farthest = distance;
      for (int c = 0; c < head_dim_; ++c)
        direction_[c] = row(key)[c] - mean_[c];
    }
  }

  // Where keys lie along the direction, and their covariance times it.
  void Project(std::span<const int> keys) {
    float norm = 0;
    for (float x : direction_) norm += x * x;
    const float inverse = norm > 0 ? 1.0f / std::sqrt(norm) : 0.0f;
    for (float& x : direction_) x *= inverse;
    std::fill(sum_.begin(), sum_.end(), 0.0f);
    for (int key : keys) {
      float along = 0;
      for (int c = 0; c < head_dim_; ++c) {
        along += (row(key)[c] - mean_[c]) * direction_[c];
      }
      // A NaN has no place in an order.
      along_[key] = std::isfinite(along) ? along : 0.0f;
      for (int c = 0; c < head_dim_; ++c) {
        sum_[c] += along_[key] * (row(key)[c] - mean_[c]);
      }
    }
  }

  const float* k_;
  int head_dim_;
  std::vector<float> mean_, direction_, sum_;  // [head_dim]
  std::vector<float> along_;                   // [count]
};

}  // namespace

std::vector<int> OrderByLikeness(const float* k, int count, int head_dim) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (count > kBlockEntries) Splitter(k, count, head_dim).Split(order);
  return order;
}

}  // namespace pyramidkv
