// A key index in a form that can be stored: codes depend on what came first
// and on keys before they were rounded, so no index can be made again from
// the entries.

#ifndef PYRAMIDKV_CACHE_KEY_INDEX_STATE_H_
#define PYRAMIDKV_CACHE_KEY_INDEX_STATE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/code_scores.h"

namespace pyramidkv {

// Empty where a kind of index has no such thing.
struct KeyIndexState {
  int32_t length = 0;                // keys
  std::vector<float> mean;           // of the keys that came first
  std::vector<std::byte> codes;      // of keys; kCluster: of centroids
  std::vector<uint16_t> clusters;    // kCluster: [length]
  std::vector<float> inverse_norms;  // kCluster: of centroids
  bool operator==(const KeyIndexState&) const = default;
};

// Coding keys less a mean that is no number would be undefined.
inline bool AreFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](float x) { return std::isfinite(x); });
}

// Whether it is of an index that keeps the mean of `columns` columns of keys
// and codes keys in groups (kernels/code_scores.h).
inline bool IsOfCodedKeys(const KeyIndexState& s, int columns, int codes) {
  const size_t groups = (size_t(s.length) + kCodeGroup - 1) / kCodeGroup;
  return s.length >= 0 && s.mean.size() == size_t(s.length > 0 ? columns : 0) &&
         s.codes.size() == groups * CodeGroupBytes(codes) && AreFinite(s.mean);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KEY_INDEX_STATE_H_
