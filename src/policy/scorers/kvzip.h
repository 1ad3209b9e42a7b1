// Scores from the most attention that an entry received while the model
// repeated the context.
//
// Source: KVzip (arXiv 2505.23416), section 3. Departures: the context is
// repeated in smaller pieces (runtime/prompt_pass.cc).

#ifndef PYRAMIDKV_POLICY_SCORERS_KVZIP_H_
#define PYRAMIDKV_POLICY_SCORERS_KVZIP_H_

#include "policy/scorer.h"

namespace pyramidkv {

const Scorer* KvZipScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_KVZIP_H_
