// Entries after a peak: they stay with it.
//
// A query finds an entry by the words in front of what it needs; what has to
// be copied are the tokens after it. Choosing single entries drops those.

#ifndef PYRAMIDKV_POLICY_SPREAD_H_
#define PYRAMIDKV_POLICY_SPREAD_H_

#include <span>

namespace pyramidkv {

// out[j] = max over i in [0, spread] of score[j - i], as far as j - i exists:
// the `spread` entries after a peak score no less than the peak. NaN counts
// as minus infinity. score, out: [n], not overlapping. REQUIRES: spread >= 0.
void SpreadForward(int spread, std::span<const float> score,
                   std::span<float> out);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPREAD_H_
