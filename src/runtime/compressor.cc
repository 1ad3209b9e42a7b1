#include "runtime/compressor.h"

#include <algorithm>
#include <numeric>

#include "fmt/format.h"
#include "kernels/matmul_rows.h"

namespace pyramidkv {
namespace {

// More tokens than a cache will see: the budgets that a fixed total comes to
// in the long run.
constexpr int kLongRun = 1 << 24;

bool IsFixedTotal(const CacheSpec& spec) {
  return spec.tokens.has_value() || spec.memory.has_value();
}

}  // namespace

Compressor::Compressor(const CacheSpec& spec, const Model& model,
                       std::vector<int> windows, int reserve_tokens)
    : spec_(spec),
      model_(&model),
      layers_(model.params().layers),
      kv_heads_(model.params().kv_heads),
      head_dim_(model.params().head_dim),
      windows_(std::move(windows)),
      reserve_tokens_(reserve_tokens),
      retained_(layers_) {
  int rank = 0;
  const int whole = std::min(spec.full_layers, layers_ - 1);
  for (int l = 0; l < layers_; ++l) {
    const bool leaves = windows_[l] == widest() && l >= whole;
    compressed_.push_back(leaves ? rank++ : -1);
  }
  Reset();
}

void Compressor::Reset() {
  const HyperParams& p = model_->params();
  rope_shift_ = step_ = tokens_ = prompt_end_ = 0;
  resolved_ = false;
  if (spec_.evicts_decoded()) {
    ring_.Reset(layers_, needs().window_rows, size_t(p.heads) * p.head_dim);
  }
  if (needs().query_statistics) {
    statistics_.assign(layers_,
                       QueryStatistics(p.heads, p.head_dim, spec_.sinks));
  }
}

Status Compressor::Open() {
  if (widest() > 0 && (needs().all_rows || needs().repetition)) {
    return Status::Usage(fmt::format(
        "cache spec: {} takes every query to see every entry, and all layers "
        "have a sliding window of {}; allowed: policies that look at the last "
        "queries or at keys (snapkv, keydiff)",
        spec_.policy, widest()));
  }
  if (spec_.heads != HeadSplit::kProfile || profile_) return {};
  PKV_ASSIGN_OR_RETURN(
      profile_,
      LoadHeadProfile(spec_.profile, compressible_layers(), kv_heads_));
  return {};
}

int Compressor::widest() const {
  const auto none = std::find(windows_.begin(), windows_.end(), 0);
  return none != windows_.end()
             ? 0
             : *std::max_element(windows_.begin(), windows_.end());
}

int Compressor::compressible_layers() const {
  return *std::max_element(compressed_.begin(), compressed_.end()) + 1;
}

std::span<const int> Compressor::layer_budgets(int layer) const {
  if (!spec_.compresses || compressed_[layer] < 0) return {};
  const Budgets& budgets = decoding_ ? decode_budgets_ : budgets_;
  return std::span<const int>(budgets.entries)
      .subspan(size_t(compressed_[layer]) * kv_heads_, kv_heads_);
}

std::optional<int> Compressor::budget(int layer) const {
  if (!resolved_) return std::nullopt;
  const auto b = layer_budgets(layer);
  if (b.empty()) return std::nullopt;
  return static_cast<int>(std::accumulate(b.begin(), b.end(), int64_t{0}) /
                          kv_heads_);
}

std::optional<double> Compressor::retained_mass(int layer) const {
  return retained_[layer];
}

// A ring, or a layer that nothing leaves, holds consecutive positions: none are
// stored.
int64_t Compressor::RingBytes(const BudgetRequest& request) const {
  int64_t bytes = 0;
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] >= 0) continue;
    int slots = tokens_ + std::max(reserve_tokens_, 0);
    if (windows_[l] > 0) {
      slots = std::min(slots, windows_[l] + kMaxRows + kPageEntries);
    }
    const int pages = (slots + kPageEntries - 1) / kPageEntries;
    bytes += pages * request.page_bytes + request.fine_bytes;
  }
  return bytes * kv_heads_;
}

BudgetRequest Compressor::Request(int tokens) const {
  BudgetRequest request;
  request.layers = compressible_layers();
  request.kv_heads = kv_heads_;
  request.tokens = widest() > 0 ? std::min(tokens, widest()) : tokens;
  const HeadFormat format = spec_.head_format(head_dim_);
  request.page_bytes = static_cast<int64_t>(format.page_bytes());
  request.reserve_tokens =
      spec_.evicts_decoded() ? spec_.slack : std::max(reserve_tokens_, 0);
  request.fine_bytes = format.overlay_bytes();
  request.other_bytes = RingBytes(request);
  request.side_bytes = SideBytesPerEntry(spec_, head_dim_);
  return request;
}

Status Compressor::Begin(int tokens, int prompt_end) {
  tokens_ = tokens;
  prompt_end_ = prompt_end;
  warnings_.clear();
  std::fill(retained_.begin(), retained_.end(), std::nullopt);
  global_.reset();
  if (!spec_.compresses) return {};
  if (spec_.memory.has_value() && reserve_tokens_ < 0 &&
      spec_.evict == Evict::kPrefill) {
    return Status::Usage(
        "cache spec: `memory` with evict=prefill needs a bound on the answer "
        "(-n): generated entries add to the cache");
  }
  BudgetRequest request = Request(prompt_end);
  PKV_ASSIGN_OR_RETURN(budgets_, ResolveBudgets(spec_, request));
  warnings_ = budgets_.warnings;
  PKV_RETURN_IF_ERROR(ResolveDecode(prompt_end));
  if (tokens < prompt_end) {  // a part of a streamed prompt
    const int64_t total = budgets_.total;
    request = Request(tokens);
    request.total = total;
    PKV_ASSIGN_OR_RETURN(budgets_, ResolveBudgets(spec_, request));
  }
  PKV_RETURN_IF_ERROR(ResolveProfile());
  resolved_ = true;
  if (spec_.heads == HeadSplit::kAdaptive && kv_heads_ == 1) {
    warnings_.push_back(
        "heads=adaptive splits a layer's budget between its KV heads; this "
        "model has one, so heads=equal is the same");
  }
  BeginGlobalSplit(budgets_.total);
  return {};
}

void Compressor::BeginGlobalSplit(int64_t total) {
  if (spec_.heads != HeadSplit::kGlobal) return;
  const int layers = compressible_layers();
  global_ = std::make_unique<GlobalSplit>(
      spec_, layers, kv_heads_, total,
      GlobalFloorEntries(spec_, total, layers, kv_heads_));
}

// With `keep` or a formula the entries are those of the prompt's end; a fixed
// number is what it comes to however long the context gets.
Status Compressor::ResolveDecode(int tokens) {
  if (!spec_.evicts_decoded()) return {};
  if (!IsFixedTotal(spec_)) {
    decode_budgets_ = budgets_;
    return {};
  }
  PKV_ASSIGN_OR_RETURN(
      decode_budgets_,
      ResolveBudgets(spec_, Request(std::max(tokens, kLongRun))));
  return {};
}

// Whole heads in place of equal budgets, with the same total.
Status Compressor::ResolveProfile() {
  if (!profile_) return {};
  const BudgetRequest r = Request(tokens_);
  PKV_ASSIGN_OR_RETURN(budgets_.entries,
                       HeadProfileBudgets(*profile_, r.tokens, budgets_.total,
                                          {spec_.sinks, spec_.recent}));
  return {};
}

Status Compressor::End(KvCache* cache) {
  ++step_;
  if (global_ == nullptr || global_->held() == 0) return {};
  PKV_RETURN_IF_ERROR(ApplyTrim(/*last=*/true, cache));
  for (int l = 0; l < layers_; ++l) {
    if (compressed_[l] < 0) continue;
    double sum = 0;
    for (int h = 0; h < kv_heads_; ++h) {
      sum += global_->HeldMass(compressed_[l], h);
    }
    if (!decoding_) retained_[l] = sum / kv_heads_;
  }
  global_.reset();
  return {};
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
