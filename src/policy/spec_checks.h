// The rules between keys that no single key can see, by group, in the order in
// which they are asked (policy/spec.cc): the first that is broken is told.
// Errors: kUsage, naming what would be right. All but the first two are for
// specs that compress.

#ifndef PYRAMIDKV_POLICY_SPEC_CHECKS_H_
#define PYRAMIDKV_POLICY_SPEC_CHECKS_H_

#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

Status CheckTypes(const CacheSpec& s);           // storage_spec.cc
Status CheckPositionsOfAll(const CacheSpec& s);  // the same; keeping all
Status CheckOneBudget(const CacheSpec& s);       // budget_spec.cc
Status CheckScorer(const CacheSpec& s);          // score_spec.cc
Status CheckEvict(const CacheSpec& s);           // budget_spec.cc
Status CheckHeads(const CacheSpec& s);           // budget_spec.cc
Status CheckRenumber(const CacheSpec& s);        // storage_spec.cc
Status CheckRemainder(const CacheSpec& s);       // tier_spec.cc
Status CheckTop(const CacheSpec& s);             // storage_spec.cc
Status CheckGlobal(const CacheSpec& s);          // budget_spec.cc
Status CheckPool(const CacheSpec& s);            // score_spec.cc
Status CheckBudgetGiven(const CacheSpec& s);     // budget_spec.cc

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_CHECKS_H_
