// Random inputs for the tests of scorers.

#ifndef PYRAMIDKV_POLICY_TESTING_RANDOM_VALUES_H_
#define PYRAMIDKV_POLICY_TESTING_RANDOM_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace pyramidkv {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Normal around `mean` with standard deviation `scale`.
inline std::vector<float> RandomValues(size_t count, uint32_t seed,
                                       float mean = 0, float scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> values(count);
  for (float& x : values) x = normal(rng);
  return values;
}

// Few different values, so that many are equal.
inline std::vector<float> RandomTies(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(rng() % 5);
  return values;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_TESTING_RANDOM_VALUES_H_
