// One layer after its attention, as a pass hands it to compressors.

#ifndef PYRAMIDKV_RUNTIME_LAYER_ENTRIES_H_
#define PYRAMIDKV_RUNTIME_LAYER_ENTRIES_H_

#include <cstdint>
#include <span>

#include "policy/layer_scores.h"

namespace pyramidkv {

// The entries that the cache already holds (decoded), then the fresh rows of
// this pass. After generated tokens there are no fresh rows: all of them are
// in the cache.
struct LayerEntries {
  int layer = 0;
  int fresh = 0;                    // rows of this pass
  int fresh_position = 0;           // of the first of them
  const int* past = nullptr;        // [kv_heads] entries from the cache
  const float* const* k = nullptr;  // [kv_heads] -> [past + fresh, head_dim]
  const float* const* v = nullptr;  // the same, or null: see fresh_v16
  // [kv_heads] -> [fresh, head_dim] f16, where the cache stores just that and
  // nobody reads values. Null, also for a head: v has them.
  const uint16_t* const* fresh_v16 = nullptr;
  // Queries; see LayerView.
  const float* window_q = nullptr;
  int window_rows = 0;
  const float* q = nullptr;    // needs.all_rows or query_statistics
  const float* lse = nullptr;  // needs.all_rows
  std::span<const ObserverRows> repetition;
  AttentionForm form = AttentionForm::kF32;  // of the products behind lse
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LAYER_ENTRIES_H_
