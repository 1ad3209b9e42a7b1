// Planning: budgets and bytes of a cache before any weight is read.

#ifndef PYRAMIDKV_PLAN_H_
#define PYRAMIDKV_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv {

struct PlanDims {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int tokens = 0;     // length of each context
  int sequences = 1;  // caches of this size side by side
  // Layers with a sliding window keep min(tokens, sliding_window) entries;
  // 0: none. `window_layers` is [layers] or empty (all, if the window is > 0).
  int sliding_window = 0;
  std::vector<bool> window_layers;
};

struct PlanLayer {
  int layer = 0;
  std::optional<int> budget;  // entries per KV head; none: window layer
  int64_t bytes = 0;          // of this layer, all sequences
};

// remainder=offload: the cold tiers of all sequences, right after a prompt.
struct PlanTier {
  int64_t entries = 0;      // sum over layers and KV heads
  int64_t bytes = 0;        // memory: resident blocks, index and the rest
  int64_t index_bytes = 0;  // of which the index
  int64_t file_bytes = 0;   // on disk; 0: all blocks are in memory
};

struct CachePlan {
  std::string spec;  // canonical
  std::vector<PlanLayer> layers;
  // K and V of all layers and sequences, and the tier's share of memory,
  // right after a prompt of `tokens`; with heads=adaptive, global and profile
  // as if the heads had equal shares.
  int64_t bytes = 0;
  // The most of it, however these split the total; else `bytes`.
  int64_t bytes_most = 0;
  std::optional<PlanTier> tier;
  int64_t bytes_full = 0;  // the same, uncompressed f16
  double saved = 0;        // 1 - bytes / bytes_full
  std::vector<std::string> warnings;
};

// The budgets that `spec` gives `dims`. Bytes are whole pages, as the cache
// will allocate them. Errors: kUsage for the spec, kDoesNotFit for a budget
// below the least (the message names the least).
Result<CachePlan> PlanCache(std::string_view spec, const PlanDims& dims);

// Dims of a GGUF file, from its header alone. `tokens` is the model's
// context length. Errors: kModel.
Result<PlanDims> PlanDimsOfModel(const std::string& model_path);

struct PresetInfo {
  std::string name;
  std::string summary;  // one line
  std::string paper;    // "arXiv NNNN.NNNNN", or empty
};

// The presets (the policies of a cache spec), for help.
std::vector<PresetInfo> PresetList();

// Names of the presets (the policies of a cache spec), for help and
// completion.
std::vector<std::string> PresetNames();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_PLAN_H_
