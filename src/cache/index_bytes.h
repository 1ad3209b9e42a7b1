// Tools of key indexes.

#ifndef PYRAMIDKV_CACHE_INDEX_BYTES_H_
#define PYRAMIDKV_CACHE_INDEX_BYTES_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pyramidkv {

// Makes room for `size` values, zero where new. Capacity grows by an eighth:
// doubling would make an index up to twice as dear.
template <class T>
void GrowTo(size_t size, std::vector<T>* values) {
  if (size > values->capacity()) {
    values->reserve(std::max(size, values->capacity() / 8 * 9));
  }
  if (size > values->size()) values->resize(size);
}

// The first `size` values of `scratch`, which only grows.
inline float* ScratchOf(size_t size, std::vector<float>* scratch) {
  if (scratch->size() < size) scratch->resize(size);
  return scratch->data();
}

// Mean [dim] of rows [count, dim], `stride` apart.
inline std::vector<float> MeanOfRows(const float* rows, int count, int dim,
                                     size_t stride) {
  std::vector<double> sum(dim);
  for (int e = 0; e < count; ++e) {
    for (int c = 0; c < dim; ++c) sum[c] += rows[e * stride + c];
  }
  std::vector<float> mean(dim);
  for (int c = 0; c < dim; ++c) mean[c] = static_cast<float>(sum[c] / count);
  return mean;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_INDEX_BYTES_H_
