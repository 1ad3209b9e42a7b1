// Finds what quantised keys are rounded by (kernels/key_rounding.h): from what
// a chunk of a prompt shows of them and of the queries that see them. A context
// that begins with fewer tokens is rounded by the mean of its keys once it has
// kFitTokens, and by a chunk as soon as one is long enough.

#ifndef PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_
#define PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_

#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "pyramidkv/status.h"
#include "runtime/layer_entries.h"

namespace pyramidkv {

// Queries that a chunk has to have.
inline constexpr int kRoundingQueries = 32;

// For a layer of a prompt, before its fresh rows are stored, of a spec that
// rounds_keys(). group: query heads per KV head. Errors: kRuntime.
Status FitRounding(const LayerEntries& e, int group, KvCache* cache,
                   ThreadPool* pool);

// For all heads without a rounding yet, after generated rows. position: tokens
// seen. Errors: kRuntime.
Status FitDecodedRounding(int position, KvCache* cache, ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_FIT_ROUNDING_H_
