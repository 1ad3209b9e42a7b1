#include "runtime/layer_ops.h"

#include "kernels/elementwise.h"

namespace pyramidkv {

void NormRows(const std::vector<float>& weight, int rows, float epsilon,
              float* x) {
  if (weight.empty()) return;
  for (int r = 0; r < rows; ++r, x += weight.size()) {
    RmsNorm(x, weight.data(), weight.size(), epsilon, x);
  }
}

}  // namespace pyramidkv
