#include "kernels/rope.h"

#include <cmath>
#include <vector>

#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

std::vector<float> Rotated(std::vector<float> x, int position, bool neox) {
  const int pairs = static_cast<int>(x.size()) / 2;
  std::vector<float> inv_freq(pairs), table(x.size());
  for (int i = 0; i < pairs; ++i) {
    inv_freq[i] =
        static_cast<float>(std::pow(1e4, -2.0 * i / double(x.size())));
  }
  RopeTable(inv_freq.data(), pairs, position, 1.0f, table.data());
  ApplyRope(table.data(), pairs, neox, 1, static_cast<int>(x.size()), x.data());
  return x;
}

// Golden vector: head_dim 4, theta 1e4, half layout.
TEST(Rope, GoldenHalfLayout) {
  const std::vector<float> k = {1, 2, 3, 4};
  ExpectNear(Rotated(k, 5, true), {3.160435f, 1.797584f, -0.107938f, 4.094959f},
             1e-5f);
  ExpectNear(Rotated(k, 2, true),
             {-3.144039f, 1.919605f, -0.339143f, 4.039197f}, 1e-5f);
}

// Rotations add: from 5 by -3 is the rotation at 2.
TEST(Rope, RotationsAdd) {
  for (bool neox : {false, true}) {
    const auto x = RandomFloats(64, 9);
    ExpectNear(Rotated(Rotated(x, 5, neox), -3, neox), Rotated(x, 2, neox),
               1e-5f);
    ExpectNear(Rotated(Rotated(x, 70000, neox), -70000, neox), x, 1e-4f);
  }
}

// Both layouts are the same rotation on permuted channels.
TEST(Rope, LayoutsArePermutations) {
  const auto x = RandomFloats(16, 10);
  std::vector<float> permuted(16);
  for (int i = 0; i < 8; ++i) {
    permuted[i] = x[2 * i];
    permuted[8 + i] = x[2 * i + 1];
  }
  const auto norm = Rotated(x, 11, false), neox = Rotated(permuted, 11, true);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(norm[2 * i], neox[i]);
    EXPECT_EQ(norm[2 * i + 1], neox[8 + i]);
  }
}

TEST(Rope, PartialRotationLeavesTheRest) {
  const std::vector<float> inv_freq = {1.0f};
  std::vector<float> table(2), x = {1, 2, 3, 4, 5, 6, 7, 8};
  RopeTable(inv_freq.data(), 1, 1, 2.0f, table.data());
  ApplyRope(table.data(), 1, false, 2, 4, x.data());
  EXPECT_NEAR(x[0], 2 * (std::cos(1.0) - 2 * std::sin(1.0)), 1e-5);
  EXPECT_NEAR(x[5], 2 * (5 * std::sin(1.0) + 6 * std::cos(1.0)), 1e-5);
  EXPECT_EQ(x[2], 3);
  EXPECT_EQ(x[7], 8);
}

}  // namespace
}  // namespace pyramidkv
