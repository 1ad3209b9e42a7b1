// The size of a cold tier before there is one: for plans.

#ifndef PYRAMIDKV_CACHE_COLD_SIZE_H_
#define PYRAMIDKV_CACHE_COLD_SIZE_H_

#include <cstdint>
#include <span>

#include "cache/cold_tier.h"

namespace pyramidkv {

struct ColdTierSize {
  int64_t entries = 0;
  int64_t bytes = 0;        // memory: blocks, index, the rest
  int64_t index_bytes = 0;  // of which the index
  int64_t file_bytes = 0;
};

// Size if heads hold so many entries, those of a prompt that came at once:
// bytes() after Settle, but for less than 4 MiB that the tier holds in
// advance.
ColdTierSize SizeOfColdTier(const ColdTierOptions& options,
                            std::span<const int> entries);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_SIZE_H_
