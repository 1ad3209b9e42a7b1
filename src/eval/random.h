// Random numbers that are the same on every machine for the same seed. The
// standard's engine is; its distributions are not, so none is used.

#ifndef PYRAMIDKV_EVAL_RANDOM_H_
#define PYRAMIDKV_EVAL_RANDOM_H_

#include <cstdint>
#include <random>

namespace pyramidkv {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // One stream for each trial of a seed: neighbours have nothing in common.
  Random(uint32_t seed, int trial)
      : engine_(Mix((uint64_t{seed} << 32) | static_cast<uint32_t>(trial))) {}

  // In [0, n). The bias of the remainder is below n / 2^64. REQUIRES: n > 0.
  int64_t Below(int64_t n) {
    return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n));
  }
  // In [0, 1).
  double Unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

 private:
  // SplitMix64's finaliser.
  static uint64_t Mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  std::mt19937_64 engine_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_RANDOM_H_
