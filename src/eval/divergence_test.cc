#include "eval/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "eval/random.h"

namespace pyramidkv {
namespace {

std::vector<float> RandomLogits(int n, uint64_t seed) {
  Random random(seed);
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(20 * random.Unit() - 30);
  return logits;
}

// Probabilities in long double, without the shift by the maximum.
std::vector<long double> PlainSoftmax(const std::vector<float>& logits) {
  std::vector<long double> p;
  long double sum = 0;
  for (const float x : logits) {
    p.push_back(std::exp(static_cast<long double>(x)));
    sum += p.back();
  }
  for (long double& x : p) x /= sum;
  return p;
}

TEST(DistributionTest, AgreesWithThePlainSums) {
  for (const int n : {1, 2, 17, 4099}) {
    const auto a = RandomLogits(n, 1), b = RandomLogits(n, 2);
    const auto p = PlainSoftmax(a), q = PlainSoftmax(b);
    long double kl = 0;
    for (int i = 0; i < n; ++i) kl += p[i] * std::log(p[i] / q[i]);
    const Distribution full(a), cache(b);
    EXPECT_NEAR(full.DivergenceTo(cache), static_cast<double>(kl), 1e-12 * n);
    EXPECT_EQ(full.DivergenceTo(full), 0);
    for (int i = 0; i < n; i += 5) {
      EXPECT_NEAR(full.LogProb(i), static_cast<double>(std::log(p[i])), 1e-12);
    }
  }
}

// KL((1/2, 1/2) || (9/10, 1/10)) = log(5/3), and it is no distance.
TEST(DistributionTest, KnownValue) {
  const std::vector<float> a = {3, 3};
  const std::vector<float> b = {std::log(9.0f), 0};
  const Distribution p(a), q(b);
  EXPECT_NEAR(p.DivergenceTo(q), std::log(5.0 / 3), 1e-7);
  EXPECT_NEAR(q.DivergenceTo(p), 0.9 * std::log(1.8) + 0.1 * std::log(0.2),
              1e-7);
}

TEST(DistributionTest, LogitsFarFromZeroAndEqualOnes) {
  const std::vector<float> a = {3e4f, 3e4f, -3e4f};
  const Distribution p(a);
  EXPECT_EQ(p.likeliest(), 0);
  EXPECT_NEAR(p.LogProb(1), std::log(0.5), 1e-11);
}

TEST(DivergenceSumTest, MeansAndMaximum) {
  const std::vector<float> even = {0, 0}, odd = {std::log(3.0f), 0},
                           swapped = {0, std::log(3.0f)};
  const Distribution full(odd), flat(even), other(swapped);
  DivergenceSum sum;
  sum.Add(full, full, 0);
  sum.Add(full, flat, 1);
  sum.Add(full, other, 0);
  const EvalDivergence mean = sum.Mean();
  const double first = full.DivergenceTo(flat),
               second = full.DivergenceTo(other);
  EXPECT_NEAR(mean.mean_kl, (first + second) / 3, 1e-12);
  EXPECT_EQ(mean.max_kl, second);
  EXPECT_NEAR(mean.top1_agreement, 2.0 / 3, 1e-12);
  EXPECT_NEAR(mean.nll, (std::log(4 / 3.0) + std::log(2) + std::log(4)) / 3,
              1e-7);
  EXPECT_NEAR(mean.nll_full,
              (std::log(4 / 3.0) + std::log(4) + std::log(4 / 3.0)) / 3, 1e-7);
}

}  // namespace
}  // namespace pyramidkv
