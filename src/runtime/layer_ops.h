// What an architecture adds to a layer between the matrix products: the same
// for prompt rows and generated rows.

#ifndef PYRAMIDKV_RUNTIME_LAYER_OPS_H_
#define PYRAMIDKV_RUNTIME_LAYER_OPS_H_

#include <vector>

namespace pyramidkv {

// x: [rows, weight.size()], each row normed in place. No weight, no norm.
void NormRows(const std::vector<float>& weight, int rows, float epsilon,
              float* x);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LAYER_OPS_H_
