// The cold tier with an index of the caller's choice: what ColdTier::Create
// makes, and what tests make with an index of their own.

#ifndef PYRAMIDKV_CACHE_COLD_STORE_H_
#define PYRAMIDKV_CACHE_COLD_STORE_H_

#include <functional>
#include <memory>

#include "cache/block_file.h"
#include "cache/cold_tier.h"

namespace pyramidkv {

// Makes the index of a layer and KV head. Called from any thread.
using IndexFactory =
    std::function<std::unique_ptr<KeyIndex>(int layer, int head)>;

// Most reads wait for the disk, not for a core.
inline constexpr int kColdReaders = 4;

struct ColdStoreParts {
  IndexFactory index;
  std::unique_ptr<FileCalls> calls;  // null: the system's
  int readers = kColdReaders;        // threads; 0: Fetch reads
};

// Errors: as ColdTier::Create.
Result<std::unique_ptr<ColdTier>> MakeColdStore(const ColdTierOptions& options,
                                                ColdStoreParts parts);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_STORE_H_
