// Scores from the length of a key alone: short keys draw the most attention.
//
// Source: "A Simple and Effective L2 Norm-Based Strategy for KV Cache
// Compression" (arXiv 2406.11430), section 3. Departures: all layers are
// treated alike (the authors' code spares the first two).

#ifndef PYRAMIDKV_POLICY_SCORERS_KEY_NORM_H_
#define PYRAMIDKV_POLICY_SCORERS_KEY_NORM_H_

#include <span>

#include "policy/scorer.h"

namespace pyramidkv {

// ||x||_2, summed in double: no overflow below the end of f32. NaN if a value
// is NaN, infinite if one is infinite.
double EuclideanNorm(std::span<const float> x);

// score[j] = -||k[j]||_2; NaN for a key with a NaN, minus infinity for an
// infinite one. RoPE rotates, so it may or may not have been applied.
// k: [n, head_dim]; score: [n].
void KeyNormScores(std::span<const float> k, int n, int head_dim,
                   std::span<float> score);

const Scorer* KeyNormScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_KEY_NORM_H_
