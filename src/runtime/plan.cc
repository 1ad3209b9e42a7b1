#include "pyramidkv/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "cache/cold_size.h"
#include "cache/head_format.h"
#include "kernels/kv_codec.h"
#include "model/model.h"
#include "policy/layer_scores.h"
#include "policy/registry.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr int kF16Bytes = 2;

// Far above any model, far below what overflows a product of all of them.
Status CheckDim(std::string_view name, int value, int high) {
  if (value >= 1 && value <= high) return Status();
  return Status::Usage(fmt::format("{} {}: allowed: an integer from 1 to {}",
                                   name, value, high));
}

Status CheckDims(const PlanDims& d) {
  PKV_RETURN_IF_ERROR(CheckDim("layers", d.layers, 1 << 12));
  PKV_RETURN_IF_ERROR(CheckDim("kv-heads", d.kv_heads, 1 << 12));
  PKV_RETURN_IF_ERROR(CheckDim("head-dim", d.head_dim, 1 << 14));
  PKV_RETURN_IF_ERROR(CheckDim("context", d.tokens, 1 << 28));
  PKV_RETURN_IF_ERROR(CheckDim("sequences", d.sequences, 1 << 16));
  // As a floating-point number, because it may not fit an integer.
  const double full = 2.0 * d.layers * d.kv_heads * d.head_dim * d.tokens *
                      sizeof(float) * d.sequences;
  if (full > 4e18) {
    return Status::Usage(
        "the dimensions multiply to more than 4e18 bytes; allowed: smaller "
        "ones");
  }
  if (!d.window_layers.empty() &&
      static_cast<int>(d.window_layers.size()) != d.layers) {
    return Status::Usage(
        fmt::format("sliding-window layers are given for {} of {} layers",
                    d.window_layers.size(), d.layers));
  }
  return Status();
}

// One sequence of the plan. Where only some layers have a sliding window,
// these are rings: the last entries, never compressed. Where all have one,
// they are compressed inside it.
class Planner {
 public:
  Planner(const CacheSpec& spec, const PlanDims& dims)
      : spec_(spec), dims_(dims), entries_(dims.tokens) {
    const HeadFormat format = spec.head_format(dims.head_dim);
    page_bytes_ = format.page_bytes();
    fine_bytes_ = format.overlay_bytes();
    ring_entries_ = Within(dims.sliding_window);
    const int own = dims.window_layers.empty() ? dims.sliding_window : 0;
    entries_ = Within(spec.sliding_window == 0 ? own
                      : own == 0               ? spec.sliding_window
                                 : std::min(own, spec.sliding_window));
  }

  Result<CachePlan> Plan() const;

 private:
  int Within(int window) const {
    return window > 0 ? std::min(dims_.tokens, window) : dims_.tokens;
  }
  bool IsRing(int layer) const {
    const bool narrower = spec_.sliding_window == 0 ||
                          spec_.sliding_window > dims_.sliding_window;
    return dims_.sliding_window > 0 && narrower &&
           !dims_.window_layers.empty() && dims_.window_layers[layer];
  }
  // Nothing leaves it (infinigen).
  bool IsWhole(int layer) const {
    return !IsRing(layer) &&
           layer < std::min(spec_.full_layers, dims_.layers - 1);
  }
  // Of a layer with consecutive positions: none are stored.
  int64_t LayerBytes(int entries) const {
    const int64_t pages = (entries + kPageEntries - 1) / kPageEntries;
    return (pages * page_bytes_ + fine_bytes_) * dims_.kv_heads;
  }
  int64_t FullBytes(int layer) const {
    const int64_t entries = IsRing(layer) ? ring_entries_ : entries_;
    return 2 * entries * dims_.kv_heads * dims_.head_dim * kF16Bytes;
  }
  BudgetRequest Request() const;
  std::optional<PlanTier> Tier(std::span<const int> kept) const;
  void WarnIfGlobal(const Budgets& budgets, CachePlan* plan) const;

  const CacheSpec& spec_;
  const PlanDims& dims_;
  int64_t page_bytes_ = 0;
  int64_t fine_bytes_ = 0;
  int entries_;  // that a head without compression holds
  int ring_entries_ = 0;
};

BudgetRequest Planner::Request() const {
  BudgetRequest r;
  r.kv_heads = dims_.kv_heads;
  r.tokens = entries_;
  r.page_bytes = page_bytes_;
  r.fine_bytes = fine_bytes_;
  r.side_bytes = SideBytesPerEntry(spec_, dims_.head_dim);
  for (int l = 0; l < dims_.layers; ++l) {
    if (IsRing(l)) {
      r.other_bytes += LayerBytes(ring_entries_);
    } else if (IsWhole(l)) {
      r.other_bytes += LayerBytes(entries_);
    } else {
      ++r.layers;
    }
  }
  return r;
}

// Where the entries go is known when the prompt has been read; the plan shows
// an even split.
void Planner::WarnIfGlobal(const Budgets& budgets, CachePlan* plan) const {
  if (!spec_.compresses || spec_.heads != HeadSplit::kGlobal) return;
  const int64_t most =
      MostSplitBytes(budgets.total, Request()) * dims_.sequences;
  plan->warnings.push_back(fmt::format(
      "heads=global splits the total by score: layers will differ, and the "
      "cache may take up to {} bytes",
      most));
}

// kept: [layers with budgets, kv_heads]. Streamed prompts come in chunks:
// then extents and arrays may be up to an eighth larger.
std::optional<PlanTier> Planner::Tier(std::span<const int> kept) const {
  if (!spec_.offloads()) return std::nullopt;
  ColdTierOptions options;
  options.format = BlockFormat(spec_.head_format(dims_.head_dim));
  options.index = spec_.index;
  options.partial = spec_.partial;
  options.resident = spec_.resident;
  std::vector<int> left;
  for (const int budget : kept) left.push_back(std::max(0, entries_ - budget));
  const ColdTierSize size = SizeOfColdTier(options, left);
  const int64_t n = dims_.sequences;
  return PlanTier{n * size.entries, n * size.bytes, n * size.index_bytes,
                  n * size.file_bytes};
}

Result<CachePlan> Planner::Plan() const {
  const BudgetRequest request = Request();
  PKV_ASSIGN_OR_RETURN(const Budgets budgets, ResolveBudgets(spec_, request));
  CachePlan plan;
  plan.spec = FormatCacheSpec(spec_);
  plan.warnings = budgets.warnings;
  BudgetRequest one_layer = request;
  one_layer.other_bytes = 0;
  auto next = budgets.entries.begin();
  for (int l = 0; l < dims_.layers; ++l) {
    PlanLayer layer;
    layer.layer = l;
    if (IsRing(l)) {
      layer.bytes = LayerBytes(ring_entries_) * dims_.sequences;
    } else if (IsWhole(l)) {
      layer.budget = entries_;
      layer.bytes = LayerBytes(entries_) * dims_.sequences;
    } else {
      const std::vector<int> heads(next, next + dims_.kv_heads);
      next += dims_.kv_heads;
      layer.budget = *std::min_element(heads.begin(), heads.end());
      layer.bytes = CacheBytes(heads, one_layer) * dims_.sequences;
    }
    plan.bytes += layer.bytes;
    plan.bytes_full += FullBytes(l) * dims_.sequences;
    plan.layers.push_back(layer);
  }
  plan.tier = Tier(budgets.entries);
  if (plan.tier) plan.bytes += plan.tier->bytes;
  plan.saved = 1 - static_cast<double>(plan.bytes) / plan.bytes_full;
  WarnIfGlobal(budgets, &plan);
  return plan;
}

}  // namespace

Result<CachePlan> PlanCache(std::string_view spec, const PlanDims& dims) {
  PKV_ASSIGN_OR_RETURN(const CacheSpec parsed, ParseCacheSpec(spec));
  PKV_RETURN_IF_ERROR(CheckDims(dims));
  if (parsed.offloads() && dims.sliding_window > 0 &&
      dims.window_layers.empty()) {
    return Status::Usage(
        "cache spec: remainder=offload: all layers of this model have a "
        "sliding window; allowed: remainder=drop");
  }
  return Planner(parsed, dims).Plan();
}

Result<PlanDims> PlanDimsOfModel(const std::string& model_path) {
  PKV_ASSIGN_OR_RETURN(const HyperParams params, ReadHyperParams(model_path));
  PlanDims dims;
  dims.layers = params.layers;
  dims.kv_heads = params.kv_heads;
  dims.head_dim = params.head_dim;
  dims.tokens = params.context_length;
  dims.sliding_window = params.sliding_window;
  dims.window_layers = params.window_layers;
  return dims;
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.emplace_back(preset.name);
  return names;
}

}  // namespace pyramidkv
