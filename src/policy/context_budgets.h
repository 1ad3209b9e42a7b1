// The budgets of one context: for its prompt, and for what decoding evicts.

#ifndef PYRAMIDKV_POLICY_CONTEXT_BUDGETS_H_
#define PYRAMIDKV_POLICY_CONTEXT_BUDGETS_H_

#include <optional>
#include <string>
#include <vector>

#include "policy/head_profile.h"
#include "policy/layer_plan.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct ContextLength {
  int tokens = 0;      // seen
  int prompt_end = 0;  // of a prompt that comes in parts; else `tokens`
  int reserve = 0;     // generated entries to leave room for; < 0: unbounded
  int room = 0;        // entries that fit into it after the prompt
};

struct ContextBudgets {
  Budgets prompt;
  Budgets decode;  // evict=decode and both; else empty
  std::vector<std::string> warnings;
};

// profile: of heads=profile. Empty for a spec that compresses nothing.
// Errors: those of ResolveBudgets and HeadProfileBudgets; kUsage for `memory`
// with an unbounded reserve.
Result<ContextBudgets> ResolveContext(const CacheSpec& spec,
                                      const LayerPlan& plan,
                                      const std::optional<HeadProfile>& profile,
                                      const ContextLength& length);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_CONTEXT_BUDGETS_H_
