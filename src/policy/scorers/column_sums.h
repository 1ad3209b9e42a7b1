// Scores from the attention of all queries so far: heavy hitters.
//
// Source: H2O (arXiv 2306.14048), section 4. Departures: one set of entries
// for the query heads of a KV head; sums may fade (`decay`), and may be
// divided by how many queries could see the entry (`variant=observed`).

#ifndef PYRAMIDKV_POLICY_SCORERS_COLUMN_SUMS_H_
#define PYRAMIDKV_POLICY_SCORERS_COLUMN_SUMS_H_

#include "policy/scorer.h"

namespace pyramidkv {

const Scorer* ColumnSumsScorer();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_COLUMN_SUMS_H_
