// Notices that a model says the same thing again and again.

#ifndef PYRAMIDKV_TEXT_LOOP_DETECTOR_H_
#define PYRAMIDKV_TEXT_LOOP_DETECTOR_H_

#include <array>
#include <vector>

namespace pyramidkv {

class LoopDetector {
 public:
  static constexpr int kLongestPeriod = 256;  // tokens
  static constexpr int kLeastTokens = 128;    // that a loop has come to
  static constexpr int kLeastTurns = 4;

  // Takes the next token of an answer. Whether the newest tokens, kLeastTokens
  // of them or more, are one part of at most kLongestPeriod tokens,
  // kLeastTurns times or more. Costs kLongestPeriod comparisons.
  bool Add(int token);

 private:
  std::vector<int> tokens_;
  // [period - 1]: how many of the newest tokens each equal the one that stands
  // a period before.
  std::array<int, kLongestPeriod> equal_ = {};
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_LOOP_DETECTOR_H_
