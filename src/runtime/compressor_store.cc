// What a compressor does with one layer: score, choose, store.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/key_rounding.h"
#include "policy/head_split.h"
#include "policy/select.h"
#include "policy/top_cut.h"
#include "runtime/append_fresh.h"
#include "runtime/compressor.h"
#include "runtime/merge_entries.h"

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

Status FirstError(std::vector<Status>* status) {
  for (Status& s : *status) PKV_RETURN_IF_ERROR(s);
  return {};
}

// Merged entries of a head with a budget, beside at least one exact entry.
int Clusters(const CacheSpec& spec, int length, int budget) {
  if (spec.remainder != Remainder::kCluster || budget >= length) return 0;
  const double wanted =
      spec.clusters < 1 ? spec.clusters * budget : spec.clusters;
  const Protected p = ProtectedEntries(spec, length, budget);
  return std::clamp(static_cast<int>(wanted), 0,
                    std::max(0, budget - p.sinks - p.recent - 1));
}

}  // namespace

// Index of the first entry that a next token could still see.
int Compressor::visible_from(const LayerEntries& e, const KvCache& cache,
                             int head) const {
  const int window = windows_[e.layer];
  const int first = window > 0 ? tokens_ - window + 1 : 0;
  if (first <= 0) return 0;
  const HeadView view = cache.View(e.layer, head);
  int i = 0;
  while (i < e.past[head] && view.position(i) < first) ++i;
  if (i == e.past[head]) i += std::max(0, first - e.fresh_position);
  return i;
}

Status Compressor::StoreAll(const LayerEntries& e, int head,
                            KvCache* cache) const {
  const int past = e.past[head];
  // From a page's first entry on: the cache drops whole pages, and blocks of
  // attention are cut at positions, however the prompt was.
  int first = std::max(visible_from(e, *cache, head) - past, 0);
  first = std::max(first - (e.fresh_position + first) % kPageEntries, 0);
  // Nothing before it is seen any more: no gap that would shift the slots.
  if (first > 0) cache->DropBefore(e.layer, head, e.fresh_position + first);
  PKV_RETURN_IF_ERROR(AppendAllFresh(e, head, first, cache));
  if (windows_[e.layer] > 0) {
    cache->DropBefore(e.layer, head, tokens_ - windows_[e.layer] + 1);
  }
  return {};
}

// Of the entries that a head holds now, those that are held in top_type. kept,
// scores: their indices in `e`, and theirs alone. budget: entries that the
// share is of, if there are more.
Status Compressor::SetTop(const LayerEntries& e, int head,
                          std::span<const int> kept,
                          std::span<const float> scores, int budget,
                          KvCache* cache) const {
  if (!spec_.ranks_top() || decoding_ || scores.empty()) return {};
  const auto n = static_cast<int>(kept.size());
  const int first = cache->View(e.layer, head).sinks;  // held finer anyway
  std::vector<float> ranked;
  // What is kept for its place has no score of its own.
  const Protected places = ProtectedEntries(spec_, n, std::min(n, budget));
  const auto score = [&](int i) {
    return i < places.sinks || i >= n - places.recent
               ? -std::numeric_limits<float>::infinity()
               : Rankable(scores[i]);
  };
  for (int i = first; i < n; ++i) ranked.push_back(score(i));
  const int64_t share = static_cast<int64_t>(spec_.top * std::min(n, budget));
  TopCut cut(&ranked, std::min<int64_t>(share, ranked.size()));
  std::vector<int> top;
  std::vector<float> k, v;
  for (int i = first; i < n; ++i) {
    if (!cut.Keep(score(i))) continue;
    top.push_back(i);
    const size_t at = size_t(kept[i]) * head_dim_;
    k.insert(k.end(), e.k[head] + at, e.k[head] + at + head_dim_);
    v.insert(v.end(), e.v[head] + at, e.v[head] + at + head_dim_);
  }
  return cache->SetTop(e.layer, head, top, k.data(), v.data());
}

// What quantised keys are rounded by, from what a first chunk shows of them and
// of the queries that see them.
void Compressor::FitRounding(const LayerEntries& e, KvCache* cache,
                             ThreadPool* pool) const {
  if (!fits_rounding() || e.window_rows < kRoundingQueries) return;
  const int group = model_->params().group();
  const size_t width = size_t(kv_heads_) * group * head_dim_;
  const float* const q =
      e.window_q + size_t(e.window_rows - kRoundingQueries) * width;
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    if (e.past[h] > 0 || cache->length(e.layer, h) > 0) return;
    cache->SetKeyRounding(
        e.layer, h,
        FitKeyRounding(head_dim_, e.fresh, e.k[h], kRoundingQueries, group,
                       width, q + size_t(h) * group * head_dim_));
  });
}

Status Compressor::KeepAll(const LayerEntries& e, const LayerScores& scores,
                           KvCache* cache, ThreadPool* pool) {
  retained_[e.layer] = 1.0;
  // What decoding will keep: no entry becomes one of the best later.
  const bool evicts_later = !spec_.keeps_all() && !spec_.evicts_prompt();
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    status[h] = StoreAll(e, h, cache);
    // What a sliding window hides has been dropped from the front.
    const int length = cache->length(e.layer, h);
    if (status[h].ok() && !scores.gathered.empty()) {
      const std::span<const float> all = scores.gathered[h];
      cache->SetScores(e.layer, h, all.last(length));
    }
    if (!status[h].ok() || scores.score.empty()) return;
    std::vector<int> kept(length);
    std::iota(kept.begin(), kept.end(), e.past[h] + e.fresh - length);
    const std::span<const float> all = scores.score[h];
    const auto budgets = layer_budgets(e.layer);
    const int most = evicts_later ? budgets[h] : length;
    status[h] = SetTop(e, h, kept, all.last(length), most, cache);
  });
  return FirstError(&status);
}

Status Compressor::OnLayer(const LayerEntries& e, KvCache* cache,
                           ThreadPool* pool) {
  if (spec_.evicts_decoded() && e.window_rows > 0) {
    ring_.Add(e.layer, e.window_q, e.window_rows);
  }
  FitRounding(e, cache, pool);
  const auto budgets = layer_budgets(e.layer);
  if (budgets.empty()) return KeepAll(e, {}, cache, pool);
  ObserveStatistics(e, pool);
  bool fits = true;
  for (int h = 0; h < kv_heads_; ++h) {
    fits = fits && e.past[h] + e.fresh <= budgets[h];
  }
  if (global_ != nullptr) {
    fits = budgets_.total >= int64_t(budgets_.entries.size()) * tokens_;
  }
  if (fits || !spec_.evicts_prompt()) {
    LayerScores scores;
    if (needs().running || spec_.ranks_top()) {
      scores = Score(e, *cache, budgets, false, pool);
    }
    return KeepAll(e, scores, cache, pool);
  }
  LayerScores scores = Score(e, *cache, budgets, true, pool);
  return global_ != nullptr ? KeepGlobal(e, &scores, cache, pool)
                            : KeepBest(e, &scores, cache, pool);
}

std::vector<int> Compressor::HeadBudgets(const LayerEntries& e,
                                         const LayerScores& scores) const {
  const auto equal = layer_budgets(e.layer);
  std::vector<int> budgets(equal.begin(), equal.end());
  if (spec_.heads != HeadSplit::kAdaptive || scores.score.empty()) {
    return budgets;
  }
  HeadSplitOptions options;
  options.floor = spec_.floor;
  const Protected p = ProtectedEntries(spec_, e.past[0] + e.fresh, equal[0]);
  options.sinks = p.sinks;
  options.recent = p.recent;
  return SplitHeads(scores.score,
                    std::accumulate(equal.begin(), equal.end(), int64_t{0}),
                    options);
}

Status Compressor::KeepBest(const LayerEntries& e, LayerScores* scores,
                            KvCache* cache, ThreadPool* pool) {
  const std::vector<int> budgets = HeadBudgets(e, *scores);
  std::vector<Status> status(kv_heads_);
  std::vector<double> mass(kv_heads_, 0.0);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    status[h] = KeepInHead(e, h, budgets[h], *scores, cache, &mass[h]);
  });
  PKV_RETURN_IF_ERROR(FirstError(&status));
  if (!scores->mass.empty()) {
    retained_[e.layer] =
        std::accumulate(mass.begin(), mass.end(), 0.0) / kv_heads_;
  }
  for (int h = 0; h < kv_heads_; ++h) Trace(*cache, e.layer, h);
  return {};
}

Status Compressor::KeepInHead(const LayerEntries& e, int h, int budget,
                              const LayerScores& scores, KvCache* cache,
                              double* mass) const {
  // Entries behind a sliding window are gone before any choice is made.
  const int from = visible_from(e, *cache, h);
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
  if (clusters > 0) {
    MergeRequest request;
    request.rule = spec_.merge;
    request.rope = model_->params().rope_of(e.layer).rotation();
    request.rope_shift = rope_shift_;
    request.clusters = clusters;
    request.from = from;
    request.head_dim = head_dim_;
    if (!scores.mass.empty()) request.attention = scores.mass[h];
    if (!scores.gathered.empty()) request.gathered = scores.gathered[h];
    merged = MergeUnkept(request, e, h, cache->View(e.layer, h), kept);
  }
  PKV_RETURN_IF_ERROR(Store(e, h, kept, cache));
  if (!scores.gathered.empty()) {
    cache->SetScores(e.layer, h, Gather(scores.gathered[h], kept));
  }
  if (spec_.ranks_top()) {
    PKV_RETURN_IF_ERROR(SetTop(e, h, kept, Gather(scores.score[h], kept),
                               static_cast<int>(kept.size()), cache));
  }
  if (merged.entries.empty()) return {};
  std::iota(kept.begin(), kept.end(), 0);
  return cache->CompactAndMerge(e.layer, h, kept, merged.entries);
}

Status Compressor::KeepGlobal(const LayerEntries& e, LayerScores* scores,
                              KvCache* cache, ThreadPool* pool) {
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    // What a sliding window hides is not a candidate.
    const int from = visible_from(e, *cache, h);
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
    if (status[h].ok()) {  // of a mean budget: what it keeps is not known yet
      const auto mean = static_cast<int>(
          budgets_.total / static_cast<int64_t>(budgets_.entries.size()));
      status[h] = SetTop(e, h, all, scores->score[h], mean, cache);
    }
  });
  PKV_RETURN_IF_ERROR(FirstError(&status));
  for (int h = 0; h < kv_heads_; ++h) {
    global_->AddHead(
        compressed_[e.layer], h, scores->score[h],
        scores->mass.empty() ? std::span<const float>() : scores->mass[h]);
  }
  return ApplyTrim(/*last=*/false, cache);
}

LayerScores Compressor::Score(const LayerEntries& e, const KvCache& cache,
                              std::span<const int> budgets, bool want_mass,
                              ThreadPool* pool) const {
  const HyperParams& p = model_->params();
  const bool want_positions = needs().positions;
  std::vector<int> n(kv_heads_);
  std::vector<std::vector<int>> positions(kv_heads_);
  std::vector<std::vector<float>> bias(kv_heads_);
  std::vector<const int*> position_of(kv_heads_);
  std::vector<const float*> bias_of(kv_heads_), past_scores(kv_heads_);
  bool any_bias = false, any_scores = false;
  for (int h = 0; h < kv_heads_; ++h) {
    const HeadView view = cache.View(e.layer, h);
    n[h] = e.past[h] + e.fresh;
    for (int i = 0; want_positions && i < n[h]; ++i) {
      positions[h].push_back(i < e.past[h] ? view.position(i)
                                           : e.fresh_position + i - e.past[h]);
    }
    position_of[h] = positions[h].data();
    if (view.bias != nullptr) {
      bias[h].assign(view.bias, view.bias + e.past[h]);
      bias[h].resize(n[h], 0.0f);
      bias_of[h] = bias[h].data();
      any_bias = true;
    }
    past_scores[h] = view.scores;
    any_scores = any_scores || view.scores != nullptr;
  }
  LayerView view;
  view.kv_heads = kv_heads_;
  view.group = p.group();
  view.head_dim = head_dim_;
  view.attention_scale = p.attention_scale;
  view.fresh = e.fresh;
  view.n = n.data();
  view.k = e.k;
  view.v = e.v;
  if (any_bias) view.bias = bias_of.data();
  if (any_scores) view.past_scores = past_scores.data();
  if (want_positions) view.positions = position_of.data();
  view.next_position = tokens_;
  view.rope_position = tokens_ - rope_shift_;
  view.window_q = e.window_q;
  view.window_rows = e.window_rows;
  view.want_mass = want_mass;
  view.q = e.q;
  view.lse = e.lse;
  view.repetition = e.repetition;
  if (!statistics_.empty()) view.statistics = &statistics_[e.layer];
  view.rope = p.rope_of(e.layer).rotation();
  view.bf16 = e.bf16;
  view.wo = &model_->layers()[e.layer].output;
  return ScoreLayer(spec_, view, budgets, pool);
}

}  // namespace pyramidkv
