#include "policy/apportion.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace pyramidkv {
namespace {

// Layers without any weight still have to grow once all others are full
// (keep=1 keeps everything), so they weigh this part of the heaviest.
constexpr double kLeastWeight = 1e-6;

// Below this a fraction is rounding of the curve: 2.9999999999 is 3, and
// equal fractions stay equal on every machine.
constexpr double kEpsilon = 1e-9;
constexpr double kFractionSteps = 1e6;

class Filler {
 public:
  Filler(const Curve& curve, const std::vector<int>& floors, int cap)
      : curve_(curve), floors_(floors), cap_(cap) {
    const double heaviest =
        *std::max_element(curve_.weight.begin(), curve_.weight.end());
    const double least = heaviest > 0 ? heaviest * kLeastWeight : 1.0;
    for (double& w : curve_.weight) w = std::max(w, least);
  }

  std::vector<double> At(double s) const {
    std::vector<double> share(floors_.size());
    for (size_t l = 0; l < share.size(); ++l) {
      const double x = curve_.offset + s * curve_.weight[l];
      share[l] = std::clamp<double>(x, floors_[l], cap_);
    }
    return share;
  }

  double SumAt(double s) const {
    const std::vector<double> share = At(s);
    return std::accumulate(share.begin(), share.end(), 0.0);
  }

  // Where a layer leaves its floor or reaches the cap; the sum is linear
  // between two of them.
  std::vector<double> Breakpoints() const {
    std::vector<double> points = {0.0};
    for (size_t l = 0; l < floors_.size(); ++l) {
      for (int bound : {floors_[l], cap_}) {
        points.push_back(
            std::max(0.0, (bound - curve_.offset) / curve_.weight[l]));
      }
    }
    std::sort(points.begin(), points.end());
    return points;
  }

 private:
  Curve curve_;
  const std::vector<int>& floors_;
  int cap_;
};

}  // namespace

std::vector<double> FillCurve(const Curve& curve,
                              const std::vector<int>& floors, int cap,
                              double target) {
  const Filler filler(curve, floors, cap);
  const std::vector<double> points = filler.Breakpoints();
  const auto reached =
      std::partition_point(points.begin(), points.end(),
                           [&](double s) { return filler.SumAt(s) < target; });
  if (reached == points.end()) {
    // Everything, but for the rounding of the last breakpoint.
    return std::vector<double>(floors.size(), cap);
  }
  if (reached == points.begin()) return filler.At(0.0);
  const double s0 = *(reached - 1), s1 = *reached;
  const double sum0 = filler.SumAt(s0), sum1 = filler.SumAt(s1);
  return filler.At(s0 + (s1 - s0) * (target - sum0) / (sum1 - sum0));
}

std::vector<int> LargestRemainder(const std::vector<double>& share, int cap,
                                  int64_t total) {
  const int layers = static_cast<int>(share.size());
  std::vector<int> entries(layers);
  std::vector<int64_t> fraction(layers);
  int64_t left = total;
  for (int l = 0; l < layers; ++l) {
    entries[l] = static_cast<int>(share[l] + kEpsilon);
    fraction[l] = std::llround((share[l] - entries[l]) * kFractionSteps);
    left -= entries[l];
  }
  DCHECK(left >= 0);
  std::vector<int> order(layers);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return fraction[a] > fraction[b]; });
  while (left > 0) {
    const int64_t before = left;
    for (int l : order) {
      if (left == 0) break;
      if (entries[l] >= cap) continue;
      ++entries[l];
      --left;
    }
    if (left == before) break;  // all at the cap: total was too large
  }
  return entries;
}

std::vector<int> RepeatForHeads(const std::vector<int>& layers, int kv_heads) {
  std::vector<int> entries;
  entries.reserve(layers.size() * kv_heads);
  for (int e : layers) entries.insert(entries.end(), kv_heads, e);
  return entries;
}

std::vector<int> Apportion(const Curve& curve, const std::vector<int>& floors,
                           int cap, int kv_heads, int64_t total) {
  const double target = static_cast<double>(total) / kv_heads;
  const std::vector<double> share = FillCurve(curve, floors, cap, target);
  const std::vector<int> layers =
      LargestRemainder(share, cap, total / kv_heads);
  std::vector<int> entries = RepeatForHeads(layers, kv_heads);
  // The rest goes to the layer that is furthest below its share. There is
  // one below the cap, or the division would have left nothing.
  int best = -1;
  for (int l = 0; l < static_cast<int>(layers.size()); ++l) {
    if (layers[l] >= cap) continue;
    if (best < 0 ||
        share[l] - layers[l] > share[best] - layers[best] + kEpsilon) {
      best = l;
    }
  }
  for (int64_t h = 0; best >= 0 && h < total % kv_heads; ++h) {
    ++entries[best * kv_heads + h];
  }
  return entries;
}

}  // namespace pyramidkv
