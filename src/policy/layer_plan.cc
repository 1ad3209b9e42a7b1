#include "policy/layer_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cache/head_format.h"
#include "kernels/kv_codec.h"
#include "kernels/matmul_rows.h"
#include "policy/layer_scores.h"

namespace pyramidkv {
namespace {

int64_t Pages(int64_t entries) {
  return (entries + kPageEntries - 1) / kPageEntries;
}

// A layer's own window, the spec's, or the narrower one.
std::vector<int> Windows(const CacheSpec& spec, const LayerDims& dims) {
  std::vector<int> windows(dims.layers, spec.budget.sliding_window);
  for (int l = 0; l < dims.layers; ++l) {
    const int own = dims.windows[l];
    if (own > 0) windows[l] = windows[l] > 0 ? std::min(windows[l], own) : own;
  }
  return windows;
}

// Bytes of a head that do not grow with its entries.
int64_t HeadBytesApart(const StorageSpec& storage, int head_dim) {
  const int64_t rounding =
      storage.rounds_keys() ? 2 * head_dim * int64_t{sizeof(float)} : 0;
  return storage.head_format(head_dim).overlay_bytes() + rounding;
}

// Bytes that the best entries have beside their pages, per entry of a head.
double TopBytesPerEntry(const CacheSpec& spec, int head_dim) {
  if (!spec.storage.ranks_top()) return 0;
  const double entry = spec.storage.head_format(head_dim).top_entry_bytes();
  return std::ceil(spec.storage.top * entry + kTopMarkBytes);
}

}  // namespace

int64_t SideBytesPerEntry(const CacheSpec& spec, int head_dim) {
  if (spec.keeps_all() && !spec.storage.ranks_top()) return 0;
  const int sides = NeedsOf(spec).gathers +
                    (spec.tier.remainder == Remainder::kCluster) +
                    (spec.storage.positions == Positions::kRenumber);
  return sides * int64_t{sizeof(float)} +
         static_cast<int64_t>(TopBytesPerEntry(spec, head_dim));
}

LayerPlan::LayerPlan(const CacheSpec& spec, const LayerDims& dims)
    : spec_(spec),
      dims_(dims),
      page_bytes_(static_cast<int64_t>(
          spec.storage.head_format(dims.head_dim).page_bytes())),
      head_bytes_(HeadBytesApart(spec.storage, dims.head_dim)),
      windows_(Windows(spec, dims)) {
  if (std::find(windows_.begin(), windows_.end(), 0) == windows_.end()) {
    widest_ = *std::max_element(windows_.begin(), windows_.end());
  }
  const int whole = std::min(spec.budget.full_layers, dims.layers - 1);
  for (int l = 0; l < dims.layers; ++l) {
    const bool leaves = windows_[l] == widest_ && l >= whole;
    ranks_.push_back(leaves ? compressed() : -1);
    if (leaves) compressed_.push_back(l);
  }
}

Status LayerPlan::Check() const {
  if (widest_ == 0) return {};
  const ScorerNeeds needs = NeedsOf(spec_);
  const bool scores = !spec_.keeps_all() || spec_.storage.ranks_top();
  if (scores && (needs.all_rows || needs.repetition)) {
    return Status::Usage(fmt::format(
        "cache spec: {} takes every query to see every entry, and all layers "
        "have a sliding window of {}; allowed: policies that look at the last "
        "queries or at keys (snapkv, keydiff)",
        spec_.policy, widest_));
  }
  if (!spec_.offloads()) return {};
  return Status::Usage(
      "cache spec: remainder=offload keeps what a later query may need, and "
      "all layers of this model have a sliding window; allowed: "
      "remainder=drop");
}

std::span<const int> LayerPlan::BudgetsOf(const Budgets& budgets,
                                          int layer) const {
  if (!spec_.compresses || ranks_[layer] < 0) return {};
  return std::span<const int>(budgets.entries)
      .subspan(size_t(ranks_[layer]) * dims_.kv_heads, dims_.kv_heads);
}

// A layer that is not compressed holds consecutive positions: none are stored.
int64_t LayerPlan::RingBytes(int seen, int reserve) const {
  int64_t bytes = 0;
  for (int l = 0; l < dims_.layers; ++l) {
    if (ranks_[l] >= 0) continue;
    int64_t slots = int64_t{seen} + std::max(reserve, 0);
    if (windows_[l] > 0) {
      slots = std::min(slots, int64_t{windows_[l]} + kMaxRows + kPageEntries);
    }
    bytes += Pages(slots) * page_bytes_ + head_bytes_;
  }
  return bytes * dims_.kv_heads;
}

BudgetRequest LayerPlan::Request(int tokens, int seen, int reserve) const {
  BudgetRequest request;
  request.layers = compressed();
  request.kv_heads = dims_.kv_heads;
  request.keeps_all = waits(tokens);
  request.tokens = widest_ > 0 ? std::min(tokens, widest_) : tokens;
  request.page_bytes = page_bytes_;
  request.reserve_tokens =
      spec_.evicts_decoded() ? spec_.budget.slack : std::max(reserve, 0);
  request.head_bytes = head_bytes_;
  request.other_bytes = RingBytes(seen, reserve);
  request.side_bytes = SideBytesPerEntry(spec_, dims_.head_dim);
  return request;
}

// chosen: by a budget, entry by entry. lost: then some of those that are
// visible are gone.
int64_t LayerPlan::HeadBytes(int layer, int entries, bool chosen,
                             bool lost) const {
  const int64_t slots = Pages(entries) * kPageEntries;
  int64_t bytes = Pages(entries) * page_bytes_ + head_bytes_;
  const bool newest = spec_.score.select == SelectKind::kRecent &&
                      (spec_.score.sinks == 0 || entries == 1);
  if (lost && !newest) bytes += slots * sizeof(int32_t);
  if (ranks_[layer] < 0 || !spec_.compresses) return bytes;
  if (NeedsOf(spec_).gathers) {
    bytes += slots * sizeof(float);
  }
  if (chosen && spec_.tier.remainder == Remainder::kCluster) {
    bytes += slots * sizeof(float);  // biases
  }
  return bytes +
         slots * static_cast<int64_t>(TopBytesPerEntry(spec_, dims_.head_dim));
}

int64_t LayerPlan::LayerBytes(int layer, int tokens,
                              std::span<const int> budgets) const {
  const int first = FirstVisible(layer, tokens);  // by the next query
  const int visible = tokens - first;
  const bool chosen =
      ranks_[layer] >= 0 && !spec_.keeps_all() && spec_.evicts_prompt() &&
      !waits(tokens) &&
      std::any_of(budgets.begin(), budgets.end(),
                  [tokens](int budget) { return budget < tokens; });
  int64_t bytes = 0;
  for (int h = 0; h < dims_.kv_heads; ++h) {
    // Where nothing is chosen, the cache drops whole pages.
    const int kept = chosen ? std::min(budgets[h], visible)
                            : tokens - first / kPageEntries * kPageEntries;
    bytes += HeadBytes(layer, kept, chosen, chosen && kept < visible);
  }
  return bytes;
}

int64_t LayerPlan::MostBytes(int tokens, const Budgets& budgets) const {
  int64_t bytes = 0, others = 0;
  for (int l = 0; l < dims_.layers; ++l) {
    const int64_t layer = LayerBytes(l, tokens, BudgetsOf(budgets, l));
    bytes += layer;
    if (ranks_[l] < 0) others += layer;
  }
  if (spec_.budget.heads == HeadSplit::kEqual || !spec_.compresses ||
      waits(tokens)) {
    return bytes;
  }
  BudgetRequest request = Request(tokens, tokens, 0);
  request.tokens = tokens;  // a window hides some: heads have positions
  request.reserve_tokens = 0;
  request.other_bytes = others;
  return std::max(bytes, MostSplitBytes(budgets.total, request));
}

}  // namespace pyramidkv
