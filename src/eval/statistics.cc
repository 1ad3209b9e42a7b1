#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "eval/random.h"

namespace pyramidkv {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % of the normal distribution

// Method 10's estimate of the correlation: the table's phi, pulled towards 0
// where it is positive; 0 where a margin is empty.
double Correlation(const PairedCounts& c) {
  const double margins = 1.0 * (c.both + c.first) * (c.second + c.neither) *
                         (c.both + c.second) * (c.first + c.neither);
  if (margins == 0) return 0;
  const double n = c.both + c.first + c.second + c.neither;
  double cross = 1.0 * c.both * c.neither - 1.0 * c.first * c.second;
  if (cross > 0) cross = std::max(0.0, cross - n / 2);
  return cross / std::sqrt(margins);
}

double SquareAndAdd(double a, double b, double correlation) {
  return std::sqrt(std::max(0.0, a * a - 2 * correlation * a * b + b * b));
}

}  // namespace

EvalInterval WilsonInterval(int right, int trials) {
  if (trials == 0) return {0, 1};
  const double n = trials;
  const double share = right / n;
  const double middle = share + kZ * kZ / (2 * n);
  const double half =
      kZ * std::sqrt(share * (1 - share) / n + kZ * kZ / (4 * n * n));
  const double scale = 1 + kZ * kZ / n;
  return {right == 0 ? 0.0 : (middle - half) / scale,
          right == trials ? 1.0 : (middle + half) / scale};
}

EvalInterval PairedInterval(const PairedCounts& c) {
  const int n = c.both + c.first + c.second + c.neither;
  if (n == 0) return {-1, 1};
  const double p1 = 1.0 * (c.both + c.first) / n;
  const double p2 = 1.0 * (c.both + c.second) / n;
  const EvalInterval i1 = WilsonInterval(c.both + c.first, n);
  const EvalInterval i2 = WilsonInterval(c.both + c.second, n);
  const double correlation = Correlation(c);
  const double difference = 1.0 * (c.first - c.second) / n;
  return {
      difference - SquareAndAdd(p1 - i1.low, i2.high - p2, correlation),
      difference + SquareAndAdd(i1.high - p1, p2 - i2.low, correlation),
  };
}

EvalInterval BootstrapMeanInterval(std::span<const double> values) {
  constexpr int kDraws = 10000;
  constexpr size_t kTail = kDraws / 40;  // 2.5 %
  Random random(1);
  const auto n = static_cast<int64_t>(values.size());
  std::vector<double> means(kDraws);
  for (double& mean : means) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += values[random.Below(n)];
    mean = sum / static_cast<double>(n);
  }
  std::sort(means.begin(), means.end());
  return {means[kTail], means[kDraws - 1 - kTail]};
}

}  // namespace pyramidkv
