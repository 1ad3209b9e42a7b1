// Fresh rows of a prompt pass into the cache, whatever form their values are
// held in.

#ifndef PYRAMIDKV_RUNTIME_APPEND_FRESH_H_
#define PYRAMIDKV_RUNTIME_APPEND_FRESH_H_

#include <span>

#include "cache/kv_cache.h"
#include "pyramidkv/status.h"
#include "runtime/layer_entries.h"

namespace pyramidkv {

// `rows`: which fresh rows are kept, ascending; all have been seen.
Status AppendFresh(const LayerEntries& e, int head, std::span<const int> rows,
                   KvCache* cache);

// All of them from `first` on.
Status AppendAllFresh(const LayerEntries& e, int head, int first,
                      KvCache* cache);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_APPEND_FRESH_H_
