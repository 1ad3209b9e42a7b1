#include "runtime/compressor.h"

#include <algorithm>
#include <numeric>

#include "fmt/format.h"
#include "kernels/matmul_rows.h"
#include "policy/select.h"

namespace pyramidkv {

Compressor::Compressor(const CacheSpec& spec, const HyperParams& params,
                       std::vector<int> windows, int reserve_tokens)
    : spec_(spec),
      layers_(params.layers),
      kv_heads_(params.kv_heads),
      group_(params.group()),
      head_dim_(params.head_dim),
      attention_scale_(params.attention_scale),
      windows_(std::move(windows)),
      reserve_tokens_(reserve_tokens),
      retained_(params.layers) {
  const bool all_windowed =
      std::find(windows_.begin(), windows_.end(), 0) == windows_.end();
  int rank = 0;
  for (int window : windows_) {
    compressed_.push_back(window == 0 || all_windowed ? rank++ : -1);
  }
}

int Compressor::compressible_layers() const {
  return *std::max_element(compressed_.begin(), compressed_.end()) + 1;
}

int Compressor::window_rows() const {
  return NeedsScores(spec_) ? spec_.window : 0;
}

std::span<const int> Compressor::layer_budgets(int layer) const {
  if (!spec_.compresses || compressed_[layer] < 0) return {};
  return std::span<const int>(budgets_.entries)
      .subspan(size_t(compressed_[layer]) * kv_heads_, kv_heads_);
}

std::optional<int> Compressor::budget(int layer) const {
  if (!resolved_) return std::nullopt;
  const auto b = layer_budgets(layer);
  if (b.empty()) return std::nullopt;
  return std::accumulate(b.begin(), b.end(), 0) / kv_heads_;
}

std::optional<double> Compressor::retained_mass(int layer) const {
  return retained_[layer];
}

Status Compressor::Begin(int tokens) {
  tokens_ = tokens;
  warnings_.clear();
  std::fill(retained_.begin(), retained_.end(), std::nullopt);
  global_.reset();
  if (!spec_.compresses) return {};
  if (spec_.memory.has_value() && reserve_tokens_ < 0) {
    return Status::Usage(
        "cache spec: `memory` with evict=prefill needs a bound on the answer "
        "(-n): generated entries add to the cache");
  }
  BudgetRequest request;
  request.layers = compressible_layers();
  request.kv_heads = kv_heads_;
  request.tokens = tokens;
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] >= 0) {
      request.tokens = windows_[l] > 0 ? std::min(tokens, windows_[l]) : tokens;
    }
  }
  request.page_bytes = static_cast<int64_t>(
      PageFormat{head_dim_, spec_.type_k, spec_.type_v}.page_bytes());
  request.reserve_tokens = std::max(reserve_tokens_, 0);
  request.other_bytes = RingBytes(request.page_bytes);
  PKV_ASSIGN_OR_RETURN(budgets_, ResolveBudgets(spec_, request));
  warnings_ = budgets_.warnings;
  resolved_ = true;
  if (spec_.heads == HeadSplit::kGlobal) {
    global_ = std::make_unique<GlobalSplit>(
        spec_, request.layers, kv_heads_, budgets_.total,
        GlobalFloorEntries(spec_, budgets_.total, request.layers, kv_heads_));
  }
  return {};
}

// A ring holds consecutive positions: none are stored.
int64_t Compressor::RingBytes(int64_t page_bytes) const {
  int64_t pages = 0;
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] >= 0) continue;
    const int slots = std::min(tokens_ + std::max(reserve_tokens_, 0),
                               windows_[l] + kMaxRows + kPageEntries);
    pages += (slots + kPageEntries - 1) / kPageEntries;
  }
  return pages * kv_heads_ * page_bytes;
}

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

namespace {

// Splits ascending indices into those of the cache and those of fresh rows.
Status Store(const LayerEntries& e, int head, std::span<const int> kept,
             KvCache* cache, int head_dim) {
  const int past = e.past[head];
  const auto middle = std::lower_bound(kept.begin(), kept.end(), past);
  const size_t from_cache = middle - kept.begin();
  PKV_RETURN_IF_ERROR(
      cache->Compact(e.layer, head, kept.subspan(0, from_cache)));
  std::vector<int> rows(middle, kept.end());
  for (int& r : rows) r -= past;
  return cache->AppendKept(e.layer, head, e.fresh_position, rows,
                           e.k[head] + size_t(past) * head_dim,
                           e.v[head] + size_t(past) * head_dim, head_dim,
                           e.fresh);
}

}  // namespace

Status Compressor::StoreAll(const LayerEntries& e, int head,
                            KvCache* cache) const {
  const int past = e.past[head];
  // From a page's first entry on: the cache drops whole pages, and blocks of
  // attention are cut at positions, however the prompt was.
  int first = std::max(visible_from(e, *cache, head) - past, 0);
  first = std::max(first - (e.fresh_position + first) % kPageEntries, 0);
  const size_t offset = size_t(past + first) * head_dim_;
  PKV_RETURN_IF_ERROR(cache->Append(e.layer, head, e.fresh_position + first,
                                    e.fresh - first, e.k[head] + offset,
                                    e.v[head] + offset, head_dim_));
  if (windows_[e.layer] > 0) {
    cache->DropBefore(e.layer, head, tokens_ - windows_[e.layer] + 1);
  }
  return {};
}

Status Compressor::OnLayer(const LayerEntries& e, KvCache* cache,
                           ThreadPool* pool) {
  const auto budgets = layer_budgets(e.layer);
  bool fits = true;
  for (size_t h = 0; h < budgets.size(); ++h) {
    fits = fits && e.past[h] + e.fresh <= budgets[h];
  }
  if (global_ != nullptr && !budgets.empty() &&
      budgets_.total < int64_t(budgets_.entries.size()) * tokens_) {
    return OnGlobalLayer(e, cache, pool);
  }
  if (!fits) return OnEqualLayer(e, cache, pool);
  retained_[e.layer] = 1.0;
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_,
                    [&](int h, int) { status[h] = StoreAll(e, h, cache); });
  for (Status& s : status) PKV_RETURN_IF_ERROR(s);
  return {};
}

LayerScores Compressor::Score(const LayerEntries& e,
                              std::span<const int> budgets,
                              ThreadPool* pool) const {
  if (!NeedsScores(spec_)) return {};
  std::vector<int> n(kv_heads_);
  for (int h = 0; h < kv_heads_; ++h) n[h] = e.past[h] + e.fresh;
  LayerView view;
  view.kv_heads = kv_heads_;
  view.group = group_;
  view.head_dim = head_dim_;
  view.n = n.data();
  view.k = e.k;
  view.v = e.v;
  view.window_q = e.window_q;
  view.window_rows = e.window_rows;
  view.attention_scale = attention_scale_;
  return ScoreLayer(spec_, view, budgets, pool);
}

Status Compressor::OnEqualLayer(const LayerEntries& e, KvCache* cache,
                                ThreadPool* pool) {
  const auto budgets = layer_budgets(e.layer);
  const LayerScores scores = Score(e, budgets, pool);
  std::vector<Status> status(kv_heads_);
  std::vector<double> mass(kv_heads_, 0.0);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    // Entries behind a sliding window are gone before any choice is made.
    const int from = visible_from(e, *cache, h);
    const int n = e.past[h] + e.fresh;
    std::span<const float> score;
    if (!scores.score.empty()) {
      score = std::span<const float>(scores.score[h]).subspan(from);
    }
    std::vector<int> kept = SelectKept(spec_, score, n - from, budgets[h]);
    for (int& i : kept) i += from;
    if (!scores.mass.empty()) {
      mass[h] = RetainedMass(scores.mass[h].data(), n, kept);
    }
    status[h] = Store(e, h, kept, cache, head_dim_);
  });
  for (Status& s : status) PKV_RETURN_IF_ERROR(s);
  if (!scores.mass.empty()) {
    retained_[e.layer] =
        std::accumulate(mass.begin(), mass.end(), 0.0) / kv_heads_;
  }
  for (int h = 0; h < kv_heads_; ++h) Trace(*cache, e.layer, h);
  return {};
}

Status Compressor::OnGlobalLayer(const LayerEntries& e, KvCache* cache,
                                 ThreadPool* pool) {
  LayerScores scores = Score(e, layer_budgets(e.layer), pool);
  std::vector<Status> status(kv_heads_);
  pool->ParallelFor(kv_heads_, [&](int h, int) {
    // What a sliding window hides is not a candidate.
    const int from = visible_from(e, *cache, h);
    std::vector<int> all(e.past[h] + e.fresh - from);
    std::iota(all.begin(), all.end(), from);
    scores.score[h].erase(scores.score[h].begin(),
                          scores.score[h].begin() + from);
    scores.mass[h].erase(scores.mass[h].begin(), scores.mass[h].begin() + from);
    status[h] = Store(e, h, all, cache, head_dim_);
  });
  for (int h = 0; h < kv_heads_; ++h) {
    PKV_RETURN_IF_ERROR(status[h]);
    global_->AddHead(compressed_[e.layer], h, scores.score[h], scores.mass[h]);
  }
  return ApplyTrim(/*last=*/false, cache);
}

Status Compressor::ApplyTrim(bool last, KvCache* cache) {
  for (const GlobalSplit::Change& change : global_->Trim(last)) {
    const int layer = static_cast<int>(
        std::find(compressed_.begin(), compressed_.end(), change.layer) -
        compressed_.begin());
    PKV_RETURN_IF_ERROR(cache->Compact(layer, change.head, change.kept));
    Trace(*cache, layer, change.head);
  }
  return {};
}

Status Compressor::End(KvCache* cache) {
  if (global_ == nullptr || global_->held() == 0) return {};
  PKV_RETURN_IF_ERROR(ApplyTrim(/*last=*/true, cache));
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] < 0) continue;
    double sum = 0;
    for (int h = 0; h < kv_heads_; ++h) {
      sum += global_->HeldMass(compressed_[l], h);
    }
    retained_[l] = sum / kv_heads_;
  }
  global_.reset();
  return {};
}

void Compressor::Trace(const KvCache& cache, int layer, int head) const {
  if (!trace_) return;
  const HeadView view = cache.View(layer, head);
  std::vector<int32_t> positions(view.length);
  for (int i = 0; i < view.length; ++i) positions[i] = view.position(i);
  trace_(fmt::format(
      R"({{"layer":{},"head":{},"step":{},"seen":{},"kept_positions":[{}]}})",
      layer, head, step_, tokens_, fmt::join(positions, ",")));
}

}  // namespace pyramidkv
