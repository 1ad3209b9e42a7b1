// The fate of entries that do not stay: the part of a cache spec that
// merging (policy/merge.h) and the cold tier (cache/cold_tier.h) read.

#ifndef PYRAMIDKV_POLICY_TIER_SPEC_H_
#define PYRAMIDKV_POLICY_TIER_SPEC_H_

#include "cache/cold_tier.h"

namespace pyramidkv {

enum class Remainder { kDrop, kCluster, kOffload };
enum class MergeRule {
  kMean,       // weighted by the tokens that each entry stands for
  kAttention,  // weighted by score; a cluster without any score: as kMean
  kCosine,     // as kMean of the members near their centroid; drops the others
};

struct TierSpec {
  Remainder remainder = Remainder::kDrop;
  // remainder=cluster. Below 1: share of a head's budget, else number.
  double clusters = 0.25;
  MergeRule merge = MergeRule::kCosine;  // docs/policies.md: the least harm
  // remainder=offload.
  IndexKind index = IndexKind::kSign;
  double partial = 0.3;
  double alpha = 6;
  double fetch = 0.2;
  double resident = 1;
  Victim victim = Victim::kCounter;

  bool operator==(const TierSpec&) const = default;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_TIER_SPEC_H_
