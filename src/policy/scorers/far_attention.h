// Scores from the most attention that an entry received from rows far after
// it: what a context needs of itself, whatever is asked later.
//
// Source: this project (docs/policies.md); KVzip's importance (arXiv
// 2505.23416) without its second pass.

#ifndef PYRAMIDKV_POLICY_SCORERS_FAR_ATTENTION_H_
#define PYRAMIDKV_POLICY_SCORERS_FAR_ATTENTION_H_

#include "policy/scorer.h"

namespace pyramidkv {

const Scorer* FarAttentionScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_FAR_ATTENTION_H_
