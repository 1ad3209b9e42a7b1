#include "pyramidkv/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "cache/cold_size.h"
#include "model/model.h"
#include "policy/context_budgets.h"
#include "policy/layer_plan.h"
#include "policy/registry.h"
#include "policy/schedule.h"
#include "policy/spec.h"
#include "policy/spec_keys.h"
#include "runtime/context_size.h"

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
  PKV_RETURN_IF_ERROR(CheckContextSize(d.tokens));
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

LayerDims DimsOf(const PlanDims& d) {
  LayerDims dims = {d.layers, d.kv_heads, d.head_dim, {}};
  for (int l = 0; l < d.layers; ++l) {
    const bool has = d.window_layers.empty() || d.window_layers[l];
    dims.windows.push_back(has ? d.sliding_window : 0);
  }
  return dims;
}

// kept: [layers with budgets, kv_heads]. Streamed prompts come in chunks:
// then extents and arrays may be up to an eighth larger.
std::optional<PlanTier> PlannedTier(const CacheSpec& spec, const PlanDims& dims,
                                    std::span<const int> kept) {
  if (!spec.offloads()) return std::nullopt;
  ColdTierOptions options;
  options.format = BlockFormat(spec.storage.head_format(dims.head_dim));
  options.index = spec.tier.index;
  options.partial = spec.tier.partial;
  options.resident = spec.tier.resident;
  std::vector<int> left;
  for (const int budget : kept) {
    const bool evicts = spec.evicts_prompt();
    left.push_back(evicts ? std::max(0, dims.tokens - budget) : 0);
  }
  const ColdTierSize size = SizeOfColdTier(options, left);
  const int64_t n = dims.sequences;
  return PlanTier{n * size.entries, n * size.bytes, n * size.index_bytes,
                  n * size.file_bytes};
}

// Where the entries go is known when the prompt has been read; the plan shows
// an even split.
void WarnOfSplit(const CacheSpec& spec, bool waits, CachePlan* plan) {
  if (!spec.compresses || spec.budget.heads == HeadSplit::kEqual) return;
  if (waits) return;  // nothing leaves
  if (spec.budget.heads != HeadSplit::kGlobal &&
      plan->bytes_most == plan->bytes) {
    return;
  }
  const bool by_profile = spec.budget.heads == HeadSplit::kProfile;
  plan->warnings.push_back(fmt::format(
      "heads={} splits the total by {}: {} will differ, and the cache may take "
      "up to {} bytes",
      FindSpecKey("heads")->get(spec), by_profile ? "profile" : "score",
      spec.budget.heads == HeadSplit::kGlobal ? "layers" : "heads",
      plan->bytes_most));
}

PlanLayer PlannedLayer(const LayerPlan& layers, const PlanDims& dims, int l,
                       std::span<const int> budgets) {
  PlanLayer layer;
  layer.layer = l;
  if (!budgets.empty()) {
    layer.budget = *std::min_element(budgets.begin(), budgets.end());
  } else if (layers.window(l) == layers.widest()) {  // nothing leaves it
    layer.budget = dims.tokens - layers.FirstVisible(l, dims.tokens - 1);
  }
  layer.bytes = layers.LayerBytes(l, dims.tokens, budgets) * dims.sequences;
  return layer;
}

Result<CachePlan> MakePlan(const CacheSpec& spec, const PlanDims& dims) {
  const LayerPlan layers(spec, DimsOf(dims));
  PKV_RETURN_IF_ERROR(layers.Check());
  // A run refuses what decoding could not keep to, too.
  PKV_ASSIGN_OR_RETURN(
      const ContextBudgets context,
      ResolveContext(spec, layers, std::nullopt,
                     {dims.tokens, dims.tokens, 0, kMostTokens}));
  const Budgets& budgets = context.prompt;
  CachePlan plan;
  plan.spec = FormatCacheSpec(spec);
  plan.warnings = budgets.warnings;
  for (int l = 0; l < dims.layers; ++l) {
    plan.layers.push_back(
        PlannedLayer(layers, dims, l, layers.BudgetsOf(budgets, l)));
    plan.bytes += plan.layers.back().bytes;
    const int64_t visible =
        dims.tokens - layers.FirstVisible(l, dims.tokens - 1);
    plan.bytes_full += 2 * visible * dims.kv_heads * dims.head_dim * kF16Bytes *
                       dims.sequences;
  }
  plan.bytes_most = layers.MostBytes(dims.tokens, budgets) * dims.sequences;
  WarnOfSplit(spec, layers.waits(dims.tokens), &plan);
  plan.tier = PlannedTier(spec, dims, budgets.entries);
  if (plan.tier) {
    plan.bytes += plan.tier->bytes;
    plan.bytes_most += plan.tier->bytes;
  }
  plan.saved = 1 - static_cast<double>(plan.bytes) / plan.bytes_full;
  return plan;
}

}  // namespace

Result<CachePlan> PlanCache(std::string_view spec, const PlanDims& dims) {
  PKV_ASSIGN_OR_RETURN(const CacheSpec parsed, ParseCacheSpec(spec));
  PKV_RETURN_IF_ERROR(CheckDims(dims));
  return MakePlan(parsed, dims);
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

std::vector<PresetInfo> PresetList() {
  std::vector<PresetInfo> list;
  for (const Preset& preset : Presets()) {
    list.push_back({std::string(preset.name), std::string(preset.summary),
                    std::string(preset.paper)});
  }
  return list;
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.emplace_back(preset.name);
  return names;
}

}  // namespace pyramidkv
