// Window attention less what an entry repeats of others.
//
// Source: R-KV (arXiv 2505.24133), section 3, and its rkv/utils.py.
// Departures: those of policy/scorers/redundancy.h; lambda is 0.1.

#ifndef PYRAMIDKV_POLICY_SCORERS_R_KV_H_
#define PYRAMIDKV_POLICY_SCORERS_R_KV_H_

#include "policy/scorer.h"

namespace pyramidkv {

const Scorer* RKvScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_R_KV_H_
