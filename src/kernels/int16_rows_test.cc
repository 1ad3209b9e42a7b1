#include "kernels/int16_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

const int kLengths[] = {8, 24, 64, 80, 128, 256, 4096};

// Rows of one magnitude, with an outlier, of one element, of equal ones.
std::vector<std::vector<float>> Rows(int n) {
  std::vector<std::vector<float>> rows;
  for (float scale : {1e-20f, 1e-3f, 1.0f, 1e15f}) {
    rows.push_back(RandomFloats(n, 7, scale));
  }
  rows.push_back(RandomFloats(n, 8));
  rows.back()[n / 2] = -100;
  rows.emplace_back(n, 0.0f);
  rows.back()[n - 1] = 3;
  rows.emplace_back(n, -2.0f);
  return rows;
}

float LargestMagnitude(const std::vector<float>& x) {
  float most = 0;
  for (float value : x) most = std::max(most, std::fabs(value));
  return most;
}

// Half a unit, beside the rounding of the scale itself.
void ExpectRounded(const std::vector<float>& x, const int16_t* got,
                   size_t stride, float scale) {
  for (size_t i = 0; i < x.size(); ++i) {
    const float whole = got[i * stride];
    ASSERT_NEAR(x[i] / scale, whole, 0.51f + std::fabs(whole) * 1e-6f) << i;
    ASSERT_LE(std::fabs(whole), kInt16Max) << i;
  }
}

TEST(Int16Rows, RoundsARow) {
  ForAllTargets([] {
    for (int n : kLengths) {
      for (const std::vector<float>& x : Rows(n)) {
        std::vector<int16_t> got(n + 1, 77);
        const float scale = ToInt16Row(x.data(), n, got.data());
        EXPECT_EQ(got[n], 77);
        ExpectRounded(x, got.data(), 1, scale);
        int64_t length = 0;  // squared
        int largest = 0;
        for (int i = 0; i < n; ++i) {
          length += int64_t{got[i]} * got[i];
          largest = std::max(largest, std::abs(int{got[i]}));
        }
        EXPECT_LT(length, int64_t{1} << 31);
        // As fine as that allows.
        EXPECT_TRUE(largest == kInt16Max || length > int64_t{2140000000})
            << largest << " " << length;
      }
    }
  });
}

TEST(Int16Rows, StoresValuesInPairs) {
  ForAllTargets([] {
    for (int n : kLengths) {
      for (const std::vector<float>& x : Rows(n)) {
        for (int entry : {0, 1, 4, 7}) {
          std::vector<int16_t> got(size_t{8} * n, 77);
          const float scale = StoreInt16Values(x.data(), n, entry, got.data());
          const size_t at = size_t(entry) / 2 * 2 * n + entry % 2;
          ExpectRounded(x, &got[at], 2, scale);
          EXPECT_FLOAT_EQ(scale * kInt16Max, LargestMagnitude(x));
          // Nothing else was touched.
          for (int i = 0; i < n; ++i) got[at + 2 * i] = 77;
          EXPECT_EQ(got, std::vector<int16_t>(got.size(), 77));
        }
      }
    }
  });
}

TEST(Int16Rows, ZerosStayZeros) {
  ForAllTargets([] {
    for (float value : {0.0f, -0.0f, 1e-38f}) {
      const std::vector<float> x(64, value);
      std::vector<int16_t> got(64, 77), pairs(128, 77);
      EXPECT_EQ(ToInt16Row(x.data(), 64, got.data()), 0);
      EXPECT_EQ(got, std::vector<int16_t>(64, 0));
      EXPECT_EQ(StoreInt16Values(x.data(), 64, 0, pairs.data()), 0);
      for (int i = 0; i < 64; ++i) EXPECT_EQ(pairs[2 * i], 0);
    }
  });
}

// No integer stands for such a value: the row is not a number.
TEST(Int16Rows, RowsThatAreNotFinite) {
  ForAllTargets([] {
    for (int n : {8, 64, 80}) {
      for (float bad : {HUGE_VALF, -HUGE_VALF, std::nanf(""), -std::nanf("")}) {
        for (int at : {0, 3, n - 1}) {
          auto x = RandomFloats(n, 9);
          x[at] = bad;
          std::vector<int16_t> got(n, 77), pairs(2 * size_t(n), 77);
          EXPECT_TRUE(std::isnan(ToInt16Row(x.data(), n, got.data())));
          EXPECT_EQ(got, std::vector<int16_t>(n, 0));
          EXPECT_TRUE(
              std::isnan(StoreInt16Values(x.data(), n, 1, pairs.data())));
          for (int i = 0; i < n; ++i) {
            EXPECT_EQ(pairs[2 * i], 77);
            EXPECT_EQ(pairs[2 * i + 1], 0);
          }
        }
      }
    }
  });
}

TEST(Int16Rows, RowsAsLargeAsFloatsGet) {
  ForAllTargets([] {
    auto x = RandomFloats(64, 10, 1e37f);
    x[11] = 1e38f;
    std::vector<int16_t> got(64), pairs(128);
    ExpectRounded(x, got.data(), 1, ToInt16Row(x.data(), 64, got.data()));
    ExpectRounded(x, pairs.data(), 2,
                  StoreInt16Values(x.data(), 64, 0, pairs.data()));
  });
}

}  // namespace
}  // namespace pyramidkv
