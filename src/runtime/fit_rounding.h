// Finds what quantised keys are rounded by, from what a prompt's first chunk
// shows of them and of the queries that see them (kernels/key_rounding.h).

#ifndef PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_
#define PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "runtime/layer_entries.h"

namespace pyramidkv {

// Queries that it takes: after a shorter chunk keys stay as they are.
inline constexpr int kRoundingQueries = 32;

// For heads without entries yet, of a spec that rounds_keys(). group: query
// heads per KV head.
void FitRounding(const LayerEntries& e, int group, KvCache* cache,
                 ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_
