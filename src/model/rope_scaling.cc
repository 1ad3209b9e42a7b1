#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace pyramidkv {
namespace {

constexpr float kFastTurns = 32, kSlowTurns = 1;

// The pair (as a real number) that makes `turns` turns in the original
// context. In f32 as in ggml: the result is rounded to a whole pair.
float PairOfTurns(const RopeScaling& s, float turns) {
  const float base = static_cast<float>(s.base);
  const float context = static_cast<float>(s.original_context);
  return static_cast<float>(s.dims) *
         std::log(context / (turns * 2 * std::numbers::pi_v<float>)) /
         (2 * std::log(base));
}

}  // namespace

Rope MakeRope(const RopeScaling& s) {
  Rope rope;
  rope.layout = s.layout;
  rope.dims = s.dims;
  rope.inv_freq.resize(s.dims / 2);

  double low = 0;
  double high = 0;
  double magnitude = s.magnitude;
  if (s.yarn) {
    low = std::max(0.0f, std::floor(PairOfTurns(s, kFastTurns)));
    high = std::min(s.dims - 1.0f, std::ceil(PairOfTurns(s, kSlowTurns)));
    if (s.factor > 1) magnitude *= 1 + 0.1 * std::log(s.factor);
  }
  for (int i = 0; i < s.dims / 2; ++i) {
    const double plain = std::pow(s.base, -2.0 * i / s.dims);
    const double scaled = plain / s.factor;
    const double ramp =
        std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
    const double mix = s.yarn ? 1 - ramp : 0;
    rope.inv_freq[i] = static_cast<float>(scaled * (1 - mix) + plain * mix);
  }
  rope.magnitude = static_cast<float>(magnitude);
  return rope;
}

void DivideFrequencies(std::span<const float> factors, Rope* rope) {
  DCHECK(factors.size() == rope->inv_freq.size());
  for (size_t i = 0; i < factors.size(); ++i) rope->inv_freq[i] /= factors[i];
}

}  // namespace pyramidkv
