// PyramidKV: budgets fall along a straight line with depth.
//
// Source: arXiv 2406.02069. `window` below is the number of entries that are
// kept whatever their score (the observation window, in the paper); the line
// runs over the other, past entries.

#ifndef PYRAMIDKV_POLICY_SCHEDULE_ARITHMETIC_H_
#define PYRAMIDKV_POLICY_SCHEDULE_ARITHMETIC_H_

#include <vector>

#include "policy/apportion.h"

namespace pyramidkv {

struct Pyramid {
  int layers = 0;
  int tokens = 0;
  int window = 0;
  double beta = 20;  // the last layer's past entries are the mean / beta
};

// mode=exact: the real line through both ends whose mean is `mean`, for
// Apportion. The first layer is held at all past entries; what that cuts off
// goes to the lower end, so the mean stays.
Curve ExactPyramid(const Pyramid& p, double mean);

// mode=reference: the integer arithmetic of the paper's code, entries per
// layer with the window. Its step is rounded down, so the mean is at or above
// `mean`. Departure: one layer gets the mean (the code divides by zero).
// REQUIRES: mean > window or mean >= tokens.
std::vector<int> ReferencePyramid(const Pyramid& p, int mean);

// mode=kvpress: the float arithmetic of NVIDIA's kvpress, window inside the
// budget, half to even; uniform where the line would end below the window.
std::vector<int> KvpressPyramid(const Pyramid& p, double mean);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCHEDULE_ARITHMETIC_H_
