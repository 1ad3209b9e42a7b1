#include "policy/schedule_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace pyramidkv {

Curve ExactPyramid(const Pyramid& p, double mean) {
  const double past = p.tokens - p.window;
  const double c = mean - p.window;
  const double hi = std::min(2 * c - c / p.beta, past);
  const double lo = 2 * c - hi;
  Curve curve;
  curve.offset = p.window;
  curve.weight.assign(p.layers, std::max(c, 0.0));
  for (int l = 0; l < p.layers && p.layers > 1; ++l) {
    curve.weight[l] = std::max(0.0, hi - (hi - lo) * l / (p.layers - 1));
  }
  return curve;
}

std::vector<int> ReferencePyramid(const Pyramid& p, int mean) {
  if (p.tokens <= mean) return std::vector<int>(p.layers, p.tokens);
  const int64_t c = mean - p.window;
  const bool is_flat = p.tokens < 2 * c || p.layers == 1;
  int64_t lo = static_cast<int64_t>(c / p.beta);
  int64_t hi = 2 * c - lo;
  if (hi >= p.tokens - p.window) {
    hi = p.tokens - p.window;
    lo = 2 * c - hi;
  }
  std::vector<int> entries(p.layers, mean);
  if (is_flat) return entries;
  const int64_t step = (hi - lo) / (p.layers - 1);
  for (int l = 0; l < p.layers; ++l) {
    entries[l] = static_cast<int>(hi - l * step) + p.window;
  }
  return entries;
}

std::vector<int> KvpressPyramid(const Pyramid& p, double mean) {
  double lo = mean / p.beta;
  double hi = 2 * mean - lo;
  if (hi >= p.tokens - p.window) {
    hi = p.tokens - p.window;
    lo = 2 * mean - hi;
  }
  const bool is_line =
      p.layers > 1 && p.tokens >= hi && hi >= lo && lo >= p.window;
  std::vector<int> entries(p.layers);
  for (int l = 0; l < p.layers; ++l) {
    const double x = is_line ? hi - l * (hi - lo) / (p.layers - 1) : mean;
    // nearbyint rounds half to even, as Python does.
    entries[l] = static_cast<int>(std::nearbyint(x));
  }
  return entries;
}

}  // namespace pyramidkv
