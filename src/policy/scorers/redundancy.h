// How much an entry repeats others: entries whose keys have near duplicates
// can go, though they are attended to.
//
// Source: R-KV (arXiv 2505.24133), section 3.3, and its rkv/utils.py.
// Departures:
// - Keys are compared within `window` entries on both sides, at a cost of
//   n * window * head_dim instead of n^2 * head_dim: near duplicates further
//   apart are not seen, the newest of them is the newest of those within the
//   window, and the mean is over the entries within the window. With
//   window >= n - 1 all this is the original.
// - A row without near duplicates leaves all columns as they are, where the
//   authors' code clears column 0 and so protects entry 0 by accident.

#ifndef PYRAMIDKV_POLICY_SCORERS_REDUNDANCY_H_
#define PYRAMIDKV_POLICY_SCORERS_REDUNDANCY_H_

#include <span>

namespace pyramidkv {

struct RedundancyOptions {
  int window = 512;        // entries on either side; >= 1
  float threshold = 0.5f;  // cosine above which two keys are near duplicates
};

// redundancy[j] = softmax over j of the mean over rows i of cos(k[i], k[j]).
// The diagonal counts as 0, and so does, for each i, its newest near
// duplicate: of several alike one stays unpunished. A key that is not finite
// gets NaN and counts for nobody. k: [n, head_dim] after RoPE;
// redundancy: [n], sums to 1.
void KeyRedundancy(std::span<const float> k, int n, int head_dim,
                   const RedundancyOptions& options,
                   std::span<float> redundancy);

// out[j] = lambda * importance[j] - (1 - lambda) * redundancy[j]; R-KV's code
// uses lambda 0.07, which is no share of 7 %: one is attention, the other a
// softmax over n. All [n]; out may be importance.
void JointScores(std::span<const float> importance,
                 std::span<const float> redundancy, float lambda,
                 std::span<float> out);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_REDUNDANCY_H_
