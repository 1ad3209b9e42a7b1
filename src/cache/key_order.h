// Keys that are alike side by side: a query that needs one of a block then
// needs most of it. Attention does not care in which order entries are.
//
// Halved again and again at the median along the direction in which the keys
// differ most (a balanced PCA tree), down to blocks of kBlockEntries.
//
// Callable from any thread.

#ifndef PYRAMIDKV_CACHE_KEY_ORDER_H_
#define PYRAMIDKV_CACHE_KEY_ORDER_H_

#include <vector>

namespace pyramidkv {

// A permutation of [0, count) for keys k [count, head_dim]. The same for the
// same keys; ties by the lower index.
std::vector<int> OrderByLikeness(const float* k, int count, int head_dim);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KEY_ORDER_H_
