#include "kernels/integer_unit.h"

#include <cmath>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

TEST(IntegerUnit, TheLargestValueIsTheLimit) {
  for (float most : {1e-20f, 0.3f, 1.0f, 65504.0f, 1e38f, FLT_MAX}) {
    for (float limit : {1.0f, 127.0f, 32512.0f, 32767.0f}) {
      const IntegerUnit unit = IntegerUnitFor(most, limit, 1e-30f);
      EXPECT_EQ(unit.factor, limit / most);
      EXPECT_EQ(unit.unit, most / limit);
      EXPECT_EQ(unit.keep, -1);
      EXPECT_EQ(std::nearbyint(most * unit.factor), limit);
    }
  }
}

TEST(IntegerUnit, GroupsOfZerosAndOfLess) {
  for (float most : {0.0f, 1e-45f, 1e-38f, 1e-30f}) {
    const IntegerUnit unit = IntegerUnitFor(most, 127.0f, 1e-30f);
    EXPECT_EQ(unit.factor, 0.0f);
    EXPECT_EQ(unit.unit, most / 127.0f);
    EXPECT_EQ(unit.keep, -1);
  }
}

// Without a bound of its own a group is zero where the factor would be
// infinite.
TEST(IntegerUnit, FactorsAreFinite) {
  for (float most : {0.0f, 1e-45f, 1e-38f, 3e-37f}) {
    EXPECT_EQ(IntegerUnitFor(most, 127.0f, 0.0f).factor, 0.0f) << most;
  }
  EXPECT_EQ(IntegerUnitFor(1e-36f, 127.0f, 0.0f).factor, 127.0f / 1e-36f);
}

TEST(IntegerUnit, WhatIsNotFiniteHasNoWholeNumbers) {
  for (float most : {HUGE_VALF, std::nanf("")}) {
    const IntegerUnit unit = IntegerUnitFor(most, 127.0f, 0.0f);
    EXPECT_EQ(unit.factor, 0.0f);
    EXPECT_TRUE(std::isnan(unit.unit));
    EXPECT_EQ(unit.keep, 0);
  }
}

}  // namespace
}  // namespace pyramidkv
