#include "runtime/keep_round.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "policy/head_split.h"
#include "policy/select.h"
#include "policy/top_cut.h"
#include "runtime/append_fresh.h"
#include "runtime/first_error.h"

namespace pyramidkv {
namespace {

// Splits ascending indices into those of the cache and those of fresh rows.
Status Store(const LayerEntries& e, int head, std::span<const int> kept,
             KvCache* cache) {
  const int past = e.past[head];
  const auto middle = std::lower_bound(kept.begin(), kept.end(), past);
  const size_t from_cache = middle - kept.begin();
  PKV_RETURN_IF_ERROR(
      cache->Compact(e.layer, head, kept.subspan(0, from_cache)));
  if (e.fresh == 0) return {};
  std::vector<int> rows(middle, kept.end());
  for (int& r : rows) r -= past;
  return AppendFresh(e, head, rows, cache);
}

std::vector<float> Gather(const std::vector<float>& values,
                          std::span<const int> kept) {
  std::vector<float> left;
  left.reserve(kept.size());
  for (int i : kept) left.push_back(values[i]);
  return left;
}

// Merged entries of a head with a budget, beside at least one exact entry.
int Clusters(const CacheSpec& spec, int length, int budget) {
  if (spec.tier.remainder != Remainder::kCluster || budget >= length) return 0;
  const double wanted =
      spec.tier.clusters < 1 ? spec.tier.clusters * budget : spec.tier.clusters;
  const Protected p = ProtectedEntries(spec, length, budget);
  return std::clamp(static_cast<int>(wanted), 0,
                    std::max(0, budget - p.sinks - p.recent - 1));
}

}  // namespace

KeepRound::KeepRound(const KeepRoundArgs& args)
    : spec_(args.spec),
      plan_(args.plan),
      model_(args.model),
      budgets_(args.budgets),
      trace_(args.trace),
      tokens_(args.tokens),
      ranks_top_(args.ranks_top),
      kv_heads_(args.plan.kv_heads()),
      step_(args.step),
      retained_(args.plan.layers()) {
  if (args.spec.budget.heads != HeadSplit::kGlobal) return;
  const int layers = args.plan.compressed();
  const int64_t total = args.budgets.total;
  global_ = std::make_unique<GlobalSplit>(
      args.spec, layers, kv_heads_, total,
      GlobalFloorEntries(args.spec, total, layers, kv_heads_));
}

// Index of the first entry that a next token could still see.
int KeepRound::VisibleFrom(const LayerEntries& e, const KvCache& cache,
                           int head) const {
  const int window = plan_.window(e.layer);
  const int first = window > 0 ? tokens_ - window + 1 : 0;
  if (first <= 0) return 0;
  const HeadView view = cache.View(e.layer, head);
  int i = 0;
  while (i < e.past[head] && view.position(i) < first) ++i;
  if (i == e.past[head]) i += std::max(0, first - e.fresh_position);
  return i;
}

Status KeepRound::StoreAll(const LayerEntries& e, int head,
                           KvCache* cache) const {
  const int past = e.past[head];
  // From a page's first entry on: the cache drops whole pages, and blocks of
  // attention are cut at positions, however the prompt was.
  int first = std::max(VisibleFrom(e, *cache, head) - past, 0);
  first = std::max(first - (e.fresh_position + first) % kPageEntries, 0);
  // Nothing before it is seen any more: no gap that would shift the slots.
  if (first > 0) cache->DropBefore(e.layer, head, e.fresh_position + first);
  PKV_RETURN_IF_ERROR(AppendAllFresh(e, head, first, cache));
  if (plan_.window(e.layer) > 0) {
    cache->DropBefore(e.layer, head, tokens_ - plan_.window(e.layer) + 1);
  }
  return {};
}

// Holds the best of a head's entries in top_type. kept, scores: the indices in
// `e` of all that it holds now, and their scores. budget: entries that the
// share is of, if there are more.
Status KeepRound::SetTop(const LayerEntries& e, int head,
                         std::span<const int> kept,
                         std::span<const float> scores, int budget,
                         KvCache* cache) const {
  if (!spec_.storage.ranks_top() || !ranks_top_ || scores.empty()) return {};
  const auto n = static_cast<int>(kept.size());
  const int first = cache->View(e.layer, head).sinks;  // held finer anyway
  std::vector<float> ranked;
  // Entries that are kept for their place have no score of their own.
  const Protected places = ProtectedEntries(spec_, n, std::min(n, budget));
  const auto score = [&](int i) {
    return i < places.sinks || i >= n - places.recent
               ? -std::numeric_limits<float>::infinity()
               : Rankable(scores[i]);
  };
  for (int i = first; i < n; ++i) ranked.push_back(score(i));
  const int64_t share =
      static_cast<int64_t>(spec_.storage.top * std::min(n, budget));
  TopCut cut(&ranked, std::min<int64_t>(share, ranked.size()));
  const int d = model_.params().head_dim;
  std::vector<int> top;
  std::vector<float> k, v;
  for (int i = first; i < n; ++i) {
    if (!cut.Keep(score(i))) continue;
    top.push_back(i);
    const size_t at = size_t(kept[i]) * d;
    k.insert(k.end(), e.k[head] + at, e.k[head] + at + d);
    v.insert(v.end(), e.v[head] + at, e.v[head] + at + d);
  }
  return cache->SetTop(e.layer, head, top, k.data(), v.data());
}

Status KeepRound::KeepAll(const LayerEntries& e, const LayerScores& scores,
                          KvCache* cache, ThreadPool* pool) {
  retained_[e.layer] = 1.0;
  // The share is of those that decoding will keep: no entry becomes one of the
  // best later.
  const bool evicts_later = !spec_.keeps_all() && !spec_.evicts_prompt();
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    status[h] = StoreAll(e, h, cache);
    // The front has lost all that a sliding window hides.
    const int length = cache->length(e.layer, h);
    if (status[h].ok() && !scores.gathered.empty()) {
      const std::span<const float> all = scores.gathered[h];
      cache->SetScores(e.layer, h, all.last(length));
    }
    if (!status[h].ok() || scores.score.empty()) return;
    std::vector<int> kept(length);
    std::iota(kept.begin(), kept.end(), e.past[h] + e.fresh - length);
    const std::span<const float> all = scores.score[h];
    const auto budgets = plan_.BudgetsOf(budgets_, e.layer);
    const int most = evicts_later ? budgets[h] : length;
    status[h] = SetTop(e, h, kept, all.last(length), most, cache);
  });
  return FirstError(status);
}

std::vector<int> KeepRound::HeadBudgets(const LayerEntries& e,
                                        const LayerScores& scores) const {
  const auto equal = plan_.BudgetsOf(budgets_, e.layer);
  std::vector<int> budgets(equal.begin(), equal.end());
  if (spec_.budget.heads != HeadSplit::kAdaptive || scores.score.empty()) {
    return budgets;
  }
  HeadSplitOptions options;
  options.floor = spec_.budget.floor;
  const Protected p = ProtectedEntries(spec_, e.past[0] + e.fresh, equal[0]);
  options.sinks = p.sinks;
  options.recent = p.recent;
  return SplitHeads(scores.score,
                    std::accumulate(equal.begin(), equal.end(), int64_t{0}),
                    options);
}

Status KeepRound::KeepBest(const LayerEntries& e, LayerScores* scores,
                           KvCache* cache, ThreadPool* pool) {
  if (global_ != nullptr) return KeepGlobal(e, scores, cache, pool);
  const std::vector<int> budgets = HeadBudgets(e, *scores);
  std::vector<Status> status(kv_heads_);
  std::vector<double> mass(kv_heads_, 0.0);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    status[h] = KeepInHead(e, h, budgets[h], *scores, cache, &mass[h]);
  });
  PKV_RETURN_IF_ERROR(FirstError(status));
  if (!scores->mass.empty()) {
    retained_[e.layer] =
        std::accumulate(mass.begin(), mass.end(), 0.0) / kv_heads_;
  }
  for (int h = 0; h < kv_heads_; ++h) Trace(*cache, e.layer, h);
  return {};
}

MergedRows KeepRound::Merge(const LayerEntries& e, int h, const Clustering& how,
                            const LayerScores& scores,
                            std::span<const int> kept,
                            const KvCache& cache) const {
  MergeRequest request;
  request.rule = spec_.tier.merge;
  request.rope = model_.params().rope_of(e.layer).rotation();
  request.rope_shift = cache.rope_shift();
  request.clusters = how.clusters;
  request.from = how.from;
  request.head_dim = model_.params().head_dim;
  if (!scores.mass.empty()) request.attention = scores.mass[h];
  if (!scores.gathered.empty()) request.gathered = scores.gathered[h];
  return MergeUnkept(request, e, h, cache.View(e.layer, h), kept);
}

Status KeepRound::KeepInHead(const LayerEntries& e, int h, int budget,
                             const LayerScores& scores, KvCache* cache,
                             double* mass) const {
  // Entries before a sliding window are gone before any choice is made.
  const int from = VisibleFrom(e, *cache, h);
  const int n = e.past[h] + e.fresh;
  std::span<const float> score;
  if (!scores.score.empty()) {
    score = std::span<const float>(scores.score[h]).subspan(from);
  }
  const int clusters = Clusters(spec_, n - from, budget);
  std::vector<int> kept = SelectKept(spec_, score, n - from, budget - clusters);
  for (int& i : kept) i += from;
  if (!scores.mass.empty()) {
    *mass = RetainedMass(scores.mass[h].data(), n, kept);
  }
  MergedRows merged;
  if (clusters > 0)
    merged = Merge(e, h, {from, clusters}, scores, kept, *cache);
  PKV_RETURN_IF_ERROR(Store(e, h, kept, cache));
  if (!scores.gathered.empty()) {
    cache->SetScores(e.layer, h, Gather(scores.gathered[h], kept));
  }
  if (spec_.storage.ranks_top()) {
    PKV_RETURN_IF_ERROR(SetTop(e, h, kept, Gather(scores.score[h], kept),
                               static_cast<int>(kept.size()), cache));
  }
  if (merged.entries.empty()) return {};
  std::iota(kept.begin(), kept.end(), 0);
  return cache->CompactAndMerge(e.layer, h, kept, merged.entries);
}

Status KeepRound::KeepGlobal(const LayerEntries& e, LayerScores* scores,
                             KvCache* cache, ThreadPool* pool) {
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    // Entries that a sliding window hides are no candidates.
    const int from = VisibleFrom(e, *cache, h);
    std::vector<int> all(e.past[h] + e.fresh - from);
    std::iota(all.begin(), all.end(), from);
    for (auto* of : {&scores->score, &scores->mass, &scores->gathered}) {
      if (of->empty()) continue;
      (*of)[h].erase((*of)[h].begin(), (*of)[h].begin() + from);
    }
    status[h] = Store(e, h, all, cache);
    if (status[h].ok() && !scores->gathered.empty()) {
      cache->SetScores(e.layer, h, scores->gathered[h]);
    }
    if (status[h].ok()) {  // of a mean budget: its own is not known yet
      const auto mean = static_cast<int>(
          budgets_.total / static_cast<int64_t>(budgets_.entries.size()));
      status[h] = SetTop(e, h, all, scores->score[h], mean, cache);
    }
  });
  PKV_RETURN_IF_ERROR(FirstError(status));
  for (int h = 0; h < kv_heads_; ++h) {
    global_->AddHead(
        plan_.rank(e.layer), h, scores->score[h],
        scores->mass.empty() ? std::span<const float>() : scores->mass[h]);
  }
  return ApplyTrim(/*last=*/false, cache);
}

Status KeepRound::End(KvCache* cache) {
  ++step_;
  if (global_ == nullptr || global_->held() == 0) return {};
  PKV_RETURN_IF_ERROR(ApplyTrim(/*last=*/true, cache));
  for (int rank = 0; rank < plan_.compressed(); ++rank) {
    double sum = 0;
    for (int h = 0; h < kv_heads_; ++h) sum += global_->HeldMass(rank, h);
    retained_[plan_.layer_of(rank)] = sum / kv_heads_;
  }
  return {};
}

Status KeepRound::ApplyTrim(bool last, KvCache* cache) {
  for (const GlobalSplit::Change& change : global_->Trim(last)) {
    const int layer = plan_.layer_of(change.layer);
    PKV_RETURN_IF_ERROR(cache->Compact(layer, change.head, change.kept));
    Trace(*cache, layer, change.head);
  }
  return {};
}

void KeepRound::Trace(const KvCache& cache, int layer, int head) const {
  if (!trace_) return;
  const HeadView view = cache.View(layer, head);
  std::vector<int32_t> positions(view.length);
  for (int i = 0; i < view.length; ++i) positions[i] = view.position(i);
  trace_(fmt::format(
      R"({{"layer":{},"head":{},"step":{},"seen":{},"kept_positions":[{}]}})",
      layer, head, step_, tokens_, fmt::join(positions, ",")));
}

}  // namespace pyramidkv
