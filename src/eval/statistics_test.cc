#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "eval/random.h"

namespace pyramidkv {
namespace {

void ExpectInterval(const EvalInterval& got, double low, double high,
                    double tolerance = 5e-5) {
  EXPECT_NEAR(got.low, low, tolerance);
  EXPECT_NEAR(got.high, high, tolerance);
}

// The examples of Newcombe's comparison of intervals for one share (Statistics
// in Medicine 17, 1998, 857-872), then the ends.
TEST(WilsonIntervalTest, PublishedValues) {
  ExpectInterval(WilsonInterval(81, 263), 0.2553, 0.3662);
  ExpectInterval(WilsonInterval(15, 148), 0.0624, 0.1605);
  ExpectInterval(WilsonInterval(0, 20), 0, 0.1611);
  ExpectInterval(WilsonInterval(1, 29), 0.0061, 0.1718);
  ExpectInterval(WilsonInterval(20, 20), 0.8389, 1);
  ExpectInterval(WilsonInterval(0, 0), 0, 1, 0);
}

TEST(WilsonIntervalTest, HoldsTheShareAndShrinks) {
  for (int n : {1, 2, 7, 40, 1000}) {
    for (int right = 0; right <= n; ++right) {
      const EvalInterval i = WilsonInterval(right, n);
      EXPECT_LE(0, i.low);
      EXPECT_LE(i.low, 1.0 * right / n);
      EXPECT_GE(i.high, 1.0 * right / n);
      EXPECT_LE(i.high, 1);
      const EvalInterval more = WilsonInterval(4 * right, 4 * n);
      EXPECT_LT(more.high - more.low, i.high - i.low);
    }
  }
}

// 36/12/2/0 is in Newcombe's paper; 1/1/7/12 is the airway data of Fagerland,
// Lydersen and Laake's comparison (Statistics in Medicine 33, 2014); 14/5/0/22
// is worked out in Altman et al., "Statistics with confidence" (2000).
TEST(PairedIntervalTest, PublishedValues) {
  ExpectInterval(PairedInterval({36, 12, 2, 0}), 0.0569, 0.3404);
  ExpectInterval(PairedInterval({1, 1, 7, 12}), -0.5069, -0.0256);
  ExpectInterval(PairedInterval({14, 5, 0, 22}), 0.0115, 0.2265);
}

// Where no trial tells the two apart there is still an interval.
TEST(PairedIntervalTest, Ends) {
  ExpectInterval(PairedInterval({20, 0, 0, 0}), -0.1611, 0.1611);
  ExpectInterval(PairedInterval({0, 20, 0, 0}), 0.7722, 1, 1e-4);
  ExpectInterval(PairedInterval({0, 0, 0, 0}), -1, 1, 0);
}

TEST(PairedIntervalTest, IsAntisymmetricAndHoldsTheDifference) {
  for (int both : {0, 3, 11}) {
    for (int first : {0, 1, 6}) {
      for (int second : {0, 2, 9}) {
        for (int neither : {0, 1, 5}) {
          const int n = both + first + second + neither;
          if (n == 0) continue;
          const EvalInterval a = PairedInterval({both, first, second, neither});
          const EvalInterval b = PairedInterval({both, second, first, neither});
          EXPECT_NEAR(a.low, -b.high, 1e-12);
          EXPECT_NEAR(a.high, -b.low, 1e-12);
          const double difference = 1.0 * (first - second) / n;
          EXPECT_LE(a.low, difference);
          EXPECT_GE(a.high, difference);
        }
      }
    }
  }
}

TEST(BootstrapMeanIntervalTest, IsThatOfTheNormalDistributionForManyValues) {
  Random random(3);
  std::vector<double> values(400);
  double sum = 0, squares = 0;
  for (double& v : values) {
    v = random.Unit();
    sum += v;
    squares += v * v;
  }
  const double mean = sum / 400;
  const double error = std::sqrt((squares / 400 - mean * mean) / 400);
  const EvalInterval i = BootstrapMeanInterval(values);
  EXPECT_NEAR(i.low, mean - 1.96 * error, 0.06 * error);
  EXPECT_NEAR(i.high, mean + 1.96 * error, 0.06 * error);
  const EvalInterval again = BootstrapMeanInterval(values);
  EXPECT_EQ(i.low, again.low);
  EXPECT_EQ(i.high, again.high);
}

TEST(BootstrapMeanIntervalTest, OfOneValueIsThatValue) {
  const double value = 0.25;
  ExpectInterval(BootstrapMeanInterval({&value, 1}), 0.25, 0.25, 0);
}

TEST(RandomTest, StreamsOfTrialsDiffer) {
  Random a(1, 0), b(1, 1), again(1, 0);
  bool differ = false;
  for (int i = 0; i < 100; ++i) {
    const int64_t x = a.Below(1000);
    EXPECT_EQ(x, again.Below(1000));
    EXPECT_GE(x, 0);
    EXPECT_LT(x, 1000);
    differ = differ || x != b.Below(1000);
  }
  EXPECT_TRUE(differ);
}

}  // namespace
}  // namespace pyramidkv
