#include "runtime/compressor.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "runtime/fit_rounding.h"
#include "runtime/score_entries.h"

namespace pyramidkv {
Compressor::Compressor(const CacheSpec& spec, const LayerPlan* plan,
                       const Model* model, int context_size, int reserve_tokens)
    : spec_(spec),
      needs_(NeedsOf(spec)),
      plan_(plan),
      model_(model),
      context_size_(context_size),
      reserve_tokens_(reserve_tokens),
      observer_(spec, needs_, plan, model),
      retained_(plan->layers()) {}

void Compressor::Reset() {
  step_ = tokens_ = prompt_end_ = 0;
  resolved_ = false;
  observer_.Reset();
}

Status Compressor::Open() {
  PKV_RETURN_IF_ERROR(plan_->Check());
  if (spec_.budget.heads != HeadSplit::kProfile || profile_) return {};
  PKV_ASSIGN_OR_RETURN(
      profile_, LoadHeadProfile(spec_.budget.profile, plan_->compressed(),
                                plan_->kv_heads()));
  return {};
}

std::optional<int> Compressor::budget(int layer) const {
  if (!resolved_) return std::nullopt;
  const auto b = plan_->BudgetsOf(budgets_.prompt, layer);
  if (b.empty()) return std::nullopt;
  return static_cast<int>(std::accumulate(b.begin(), b.end(), int64_t{0}) /
                          plan_->kv_heads());
}

KeepRoundArgs Compressor::RoundArgs(const Budgets& budgets,
                                    bool ranks_top) const {
  return {.spec = spec_,
          .plan = *plan_,
          .model = *model_,
          .budgets = budgets,
          .tokens = tokens_,
          .step = step_,
          .ranks_top = ranks_top,
          .trace = trace_};
}

// Entries that a head can take after a prompt; renumbered ones fill a context
// again and again.
int Compressor::RoomAfter(int prompt_end) const {
  if (spec_.storage.positions == Positions::kRenumber) return context_size_;
  return std::max(context_size_ - prompt_end, 0);
}

Status Compressor::Begin(int tokens, int prompt_end) {
  tokens_ = tokens;
  prompt_end_ = prompt_end;
  std::fill(retained_.begin(), retained_.end(), std::nullopt);
  round_.reset();
  PKV_ASSIGN_OR_RETURN(budgets_,
                       ResolveContext(spec_, *plan_, profile_,
                                      {tokens, prompt_end, reserve_tokens_,
                                       RoomAfter(prompt_end)}));
  resolved_ = spec_.compresses;
  round_.emplace(RoundArgs(budgets_.prompt, /*ranks_top=*/true));
  return {};
}

// Whether all entries of a layer stay.
bool Compressor::Fits(const LayerEntries& e) const {
  if (spec_.keeps_all() || !spec_.evicts_prompt() || plan_->waits(tokens_)) {
    return true;
  }
  if (spec_.budget.heads == HeadSplit::kGlobal) {
    const Budgets& all = budgets_.prompt;
    return all.total >= int64_t(all.entries.size()) * tokens_;
  }
  const auto budgets = plan_->BudgetsOf(budgets_.prompt, e.layer);
  for (int h = 0; h < plan_->kv_heads(); ++h) {
    if (e.past[h] + e.fresh > budgets[h]) return false;
  }
  return true;
}

Status Compressor::OnLayer(const LayerEntries& e, KvCache* cache,
                           ThreadPool* pool) {
  observer_.ObservePrompt(e, cache->rope_shift(), pool);
  if (spec_.storage.rounds_keys()) {
    PKV_RETURN_IF_ERROR(FitRounding(e, model_->params().group(), cache, pool));
  }
  const auto budgets = plan_->BudgetsOf(budgets_.prompt, e.layer);
  const bool all = budgets.empty() || Fits(e);
  LayerScores scores;
  if (!budgets.empty() &&
      (!all || needs_.gathers || spec_.storage.ranks_top())) {
    scores = ScoreEntries({.spec = spec_,
                           .model = *model_,
                           .cache = *cache,
                           .tokens = tokens_,
                           .statistics = observer_.statistics(e.layer),
                           .budgets = budgets,
                           .want_mass = !all},
                          e, pool);
  }
  PKV_RETURN_IF_ERROR(all ? round_->KeepAll(e, scores, cache, pool)
                          : round_->KeepBest(e, &scores, cache, pool));
  retained_[e.layer] = round_->retained()[e.layer];
  return {};
}

Status Compressor::End(KvCache* cache) {
  ++step_;
  PKV_RETURN_IF_ERROR(round_->End(cache));
  retained_ = round_->retained();
  round_.reset();
  return {};
}

}  // namespace pyramidkv
