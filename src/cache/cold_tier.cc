#include "cache/cold_tier.h"

#include <utility>

#include "cache/cold_store.h"

namespace pyramidkv {

Result<std::unique_ptr<ColdTier>> ColdTier::Create(
    const ColdTierOptions& options) {
  ColdStoreParts parts;
  parts.index = [options](int layer, int head) {
    KeyIndexOptions index;
    index.kind = options.index;
    index.head_dim = options.format.head_dim;
    index.partial = options.partial;
    if (options.skew != nullptr) {
      const size_t d = index.head_dim;
      index.skew =
          options.skew + (size_t(layer) * options.kv_heads + head) * d * d;
    }
    return MakeKeyIndex(index);
  };
  return MakeColdStore(options, std::move(parts));
}

}  // namespace pyramidkv
