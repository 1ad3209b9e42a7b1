// Scores from how much a key differs from the mean direction of all keys.
//
// Source: KeyDiff (arXiv 2504.15364), section 3. Departures: none in the
// score. The paper applies it block by block, to what is kept plus a block;
// the caller decides which keys it hands over.

#ifndef PYRAMIDKV_POLICY_SCORERS_KEY_DIFF_H_
#define PYRAMIDKV_POLICY_SCORERS_KEY_DIFF_H_

#include <span>

#include "policy/scorer.h"

namespace pyramidkv {

// score[j] = -cos(k[j], mean of k[i] / ||k[i]||), in [-1, 1].
// A zero key scores 0, as does everything if the mean is zero. A key that is
// not finite scores NaN and is left out of the mean.
// k: [n, head_dim] after RoPE; score: [n].
void KeyDiffScores(std::span<const float> k, int n, int head_dim,
                   std::span<float> score);

const Scorer* KeyDiffScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_KEY_DIFF_H_
