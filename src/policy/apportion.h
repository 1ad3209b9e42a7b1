// From a curve to whole entries whose sum is exactly the total.

#ifndef PYRAMIDKV_POLICY_APPORTION_H_
#define PYRAMIDKV_POLICY_APPORTION_H_

#include <cstdint>
#include <vector>

namespace pyramidkv {

// The shape of a schedule: layer l gets offset + s * weight[l] for some s.
struct Curve {
  double offset = 0;
  std::vector<double> weight;  // [layers], >= 0
};

// clamp(offset + s * weight[l], floors[l], cap) with the s whose sum over
// layers is `target`. All floors (or all caps) where the target is beyond.
// Rising with `target` in every layer.
std::vector<double> FillCurve(const Curve& curve,
                              const std::vector<int>& floors, int cap,
                              double target);

// Whole numbers with the sum `total`: each share rounded down, and one more
// for the largest fractions, lower layer first, none above `cap`.
// REQUIRES: sum(floor(share)) <= total <= cap * layers.
std::vector<int> LargestRemainder(const std::vector<double>& share, int cap,
                                  int64_t total);

// Entries [layers, kv_heads] with the sum `total`. All heads of a layer are
// equal but in one layer, which takes what kv_heads does not divide.
std::vector<int> Apportion(const Curve& curve, const std::vector<int>& floors,
                           int cap, int kv_heads, int64_t total);

// [layers] entries per head, repeated for every head.
std::vector<int> RepeatForHeads(const std::vector<int>& layers, int kv_heads);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_APPORTION_H_
