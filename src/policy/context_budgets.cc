#include "policy/context_budgets.h"

#include <algorithm>

namespace pyramidkv {
namespace {

// More tokens than a cache will see: the budgets that a fixed total comes to
// in the long run.
constexpr int kLongRun = 1 << 24;

// For `tokens` of a context: no more is generated than there is room for.
BudgetRequest RequestFor(const LayerPlan& plan, const ContextLength& length,
                         int tokens) {
  const int reserve =
      length.reserve < 0 ? length.room : std::min(length.reserve, length.room);
  BudgetRequest request = plan.Request(tokens, length.tokens, reserve);
  request.reserve_tokens = std::min(request.reserve_tokens, length.room);
  return request;
}

// With `keep` or a formula the entries are those of the prompt's end, or of the
// tokens from which anything leaves if the prompt has fewer; a fixed number is
// what it comes to however long the context gets.
Result<Budgets> DecodeBudgets(const CacheSpec& spec, const LayerPlan& plan,
                              const ContextLength& length,
                              const Budgets& prompt) {
  if (!spec.evicts_decoded()) return Budgets();
  if (!spec.budget.bounded()) {
    if (length.prompt_end >= spec.budget.from) return prompt;
    const int from = std::min(spec.budget.from, kLongRun);
    BudgetRequest request = RequestFor(plan, length, from);
    request.keeps_all = false;
    return ResolveBudgets(spec, request);
  }
  return ResolveBudgets(
      spec, RequestFor(plan, length, std::max(length.prompt_end, kLongRun)));
}

}  // namespace

Result<ContextBudgets> ResolveContext(const CacheSpec& spec,
                                      const LayerPlan& plan,
                                      const std::optional<HeadProfile>& profile,
                                      const ContextLength& length) {
  ContextBudgets budgets;
  if (!spec.compresses) return budgets;
  if (spec.budget.memory && length.reserve < 0 &&
      spec.budget.evict == Evict::kPrefill) {
    return Status::Usage(
        "cache spec: `memory` with evict=prefill needs a bound on the answer "
        "(-n): generated entries add to the cache");
  }
  PKV_ASSIGN_OR_RETURN(
      budgets.prompt,
      ResolveBudgets(spec, RequestFor(plan, length, length.prompt_end)));
  budgets.warnings = budgets.prompt.warnings;
  PKV_ASSIGN_OR_RETURN(budgets.decode,
                       DecodeBudgets(spec, plan, length, budgets.prompt));
  BudgetRequest request = RequestFor(plan, length, length.tokens);
  if (length.tokens < length.prompt_end) {  // a part of a streamed prompt
    request.total = budgets.prompt.total;
    PKV_ASSIGN_OR_RETURN(budgets.prompt, ResolveBudgets(spec, request));
  }
  if (profile) {  // whole heads in place of equal budgets, with the same total
    PKV_ASSIGN_OR_RETURN(
        budgets.prompt.entries,
        HeadProfileBudgets(*profile, request.tokens, budgets.prompt.total,
                           {spec.score.sinks, spec.score.recent}));
  }
  if (spec.budget.heads == HeadSplit::kAdaptive && plan.kv_heads() == 1) {
    budgets.warnings.push_back(
        "heads=adaptive splits a layer's budget between its KV heads; this "
        "model has one, so heads=equal is the same");
  }
  return budgets;
}

}  // namespace pyramidkv
