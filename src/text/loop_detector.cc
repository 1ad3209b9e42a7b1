#include "text/loop_detector.h"

#include <algorithm>

namespace pyramidkv {

bool LoopDetector::Add(int token) {
  bool loops = false;
  const int before = static_cast<int>(tokens_.size());
  for (int period = 1; period <= std::min(before, kLongestPeriod); ++period) {
    int& equal = equal_[period - 1];
    equal = tokens_[before - period] == token ? equal + 1 : 0;
    loops = loops || (equal >= (kLeastTurns - 1) * period &&
                      equal + period >= kLeastTokens);
  }
  tokens_.push_back(token);
  return loops;
}

}  // namespace pyramidkv
