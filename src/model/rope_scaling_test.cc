#include "model/rope_scaling.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

TEST(RopeScalingTest, Plain) {
  const Rope rope = MakeRope({.dims = 4});
  ASSERT_EQ(rope.inv_freq.size(), 2u);
  EXPECT_FLOAT_EQ(rope.inv_freq[0], 1.0f);
  EXPECT_FLOAT_EQ(rope.inv_freq[1], 0.01f);
  EXPECT_EQ(rope.magnitude, 1.0f);
  EXPECT_EQ(rope.dims, 4);
  EXPECT_EQ(rope.layout, Rope::Layout::kNorm);
}

TEST(RopeScalingTest, LinearDividesAllFrequencies) {
  const Rope rope = MakeRope({.dims = 4, .factor = 4});
  EXPECT_FLOAT_EQ(rope.inv_freq[0], 0.25f);
  EXPECT_FLOAT_EQ(rope.inv_freq[1], 0.0025f);
  EXPECT_EQ(rope.magnitude, 1.0f);
}

// By hand: 32 turns in 64 tokens are at pair -1.99 and 1 turn is at pair
// 4.03, so the blend runs from pair 0 (plain) to pair 5 (divided).
TEST(RopeScalingTest, YarnBlendsBetweenTheTurns) {
  const Rope rope =
      MakeRope({.dims = 32, .factor = 4, .yarn = true, .original_context = 64});
  EXPECT_FLOAT_EQ(rope.inv_freq[0], 1.0f);
  EXPECT_NEAR(rope.inv_freq[1], 0.47799013, 1e-7);  // 0.8 plain, 0.2 divided
  EXPECT_NEAR(rope.inv_freq[2], 0.22135944, 1e-7);  // 0.6 plain
  EXPECT_NEAR(rope.inv_freq[5], 0.05623413 / 4, 1e-8);
  EXPECT_NEAR(rope.inv_freq[15], std::pow(10000.0, -30.0 / 32) / 4, 1e-10);
  EXPECT_NEAR(rope.magnitude, 1.1386294, 1e-6);  // 1 + 0.1 ln 4
}

TEST(RopeScalingTest, YarnMagnitudeIsMultiplied) {
  RopeScaling scaling = {.dims = 32,
                         .factor = 4,
                         .yarn = true,
                         .original_context = 64,
                         .magnitude = 1.5};
  EXPECT_NEAR(MakeRope(scaling).magnitude, 1.5 * 1.1386294, 1e-6);
  scaling.yarn = false;
  EXPECT_FLOAT_EQ(MakeRope(scaling).magnitude, 1.5f);
}

TEST(RopeScalingTest, FactorsDivide) {
  Rope rope = MakeRope({.dims = 4});
  DivideFrequencies(std::vector<float>{1.0f, 8.0f}, &rope);
  EXPECT_FLOAT_EQ(rope.inv_freq[0], 1.0f);
  EXPECT_FLOAT_EQ(rope.inv_freq[1], 0.00125f);
}

}  // namespace
}  // namespace pyramidkv
