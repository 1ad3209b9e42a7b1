// Small f32 matrix products inside a scorer: one thread, through oneDNN.

#ifndef PYRAMIDKV_POLICY_GEMM_H_
#define PYRAMIDKV_POLICY_GEMM_H_

namespace pyramidkv {

// A row-major operand; `stride` values from one stored row to the next.
struct GemmOperand {
  const float* data = nullptr;
  int stride = 0;
  bool transposed = false;  // stored [inner, outer] instead of [outer, inner]
};

struct GemmArgs {
  int m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
  GemmOperand a;       // [m, k]
  GemmOperand b;       // [k, n]
  float* c = nullptr;  // [m, n], rows of c_stride values
  int c_stride = 0;
};

// c = alpha * a * b + beta * c, in the calling thread alone. oneDNN may sum in
// another order for another shape: callers pad to one shape where a row's
// result must not depend on how many rows there are.
// REQUIRES: m, n, k > 0.
void Gemm(const GemmArgs& args);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_GEMM_H_
