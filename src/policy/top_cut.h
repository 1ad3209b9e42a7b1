// The score that separates the best `count` of some scores from the rest, so
// that one pass in order of index can keep exactly that many.

#ifndef PYRAMIDKV_POLICY_TOP_CUT_H_
#define PYRAMIDKV_POLICY_TOP_CUT_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "base/check.h"

namespace pyramidkv {

// A NaN compares false with everything, which breaks any order: it ranks
// lowest instead.
inline float Rankable(float score) {
  return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
}

class TopCut {
 public:
  // `scores`, without NaN, are scrambled. count <= size.
  TopCut(std::vector<float>* scores, int64_t count) {
    DCHECK(count >= 0 && count <= static_cast<int64_t>(scores->size()));
    if (count == 0) {
      cut_ = std::numeric_limits<float>::infinity();
      return;
    }
    const auto nth = scores->begin() + (count - 1);
    std::nth_element(scores->begin(), nth, scores->end(),
                     std::greater<float>());
    cut_ = *nth;
    ties_ = std::count(scores->begin(), nth + 1, cut_);
  }

  // Call once for each score in order: of equal ones the first stay.
  bool Keep(float score) {
    if (score > cut_) return true;
    return score == cut_ && ties_-- > 0;
  }

 private:
  float cut_ = 0;
  int64_t ties_ = 0;  // how many equal to cut_ are among the best
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_TOP_CUT_H_
