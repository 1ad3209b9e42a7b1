// The cold tier with an index of the caller's choice: what ColdTier::Create
// makes, and what tests make with an index of their own.

#ifndef PYRAMIDKV_CACHE_COLD_STORE_H_
#define PYRAMIDKV_CACHE_COLD_STORE_H_

#include <functional>
#include <memory>

#include "cache/cold_tier.h"

namespace pyramidkv {

// Makes the index of a layer and KV head. Called from any thread.
using IndexFactory =
    std::function<std::unique_ptr<KeyIndex>(int layer, int head)>;

// Errors: as ColdTier::Create.
Result<std::unique_ptr<ColdTier>> MakeColdStore(const ColdTierOptions& options,
                                                IndexFactory factory);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_STORE_H_
