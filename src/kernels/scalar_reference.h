// The oracle of every kernel: plain loops in double precision, slow and
// obvious. Tests compare the kernels with these on every SIMD target.

#ifndef PYRAMIDKV_KERNELS_SCALAR_REFERENCE_H_
#define PYRAMIDKV_KERNELS_SCALAR_REFERENCE_H_

#include <cstddef>
#include <vector>

#include "kernels/column_attention.h"
#include "kernels/nearest.h"
#include "kernels/window_scores.h"

namespace pyramidkv::reference {

// Softmax of scale * q.k[j] + bias[j] over j in [begin, end), times v.
// q, out: [head_dim]; k, v: [>= end, head_dim]; bias: [>= end] or null.
void Attend(const float* q, const float* k, const float* v, int begin, int end,
            int head_dim, float scale, const float* bias, float* out);

// [end - begin]: the softmax alone.
std::vector<double> Probabilities(const float* q, const float* k, int begin,
                                  int end, int head_dim, float scale,
                                  const float* bias);

// Log-sum-exp of the same logits.
float LogSumExp(const float* q, const float* k, int begin, int end,
                int head_dim, float scale, const float* bias);

// y[m, n] = x[m, k] * transpose(w[n, k]).
std::vector<float> MatMul(const float* x, const float* w, int m, int n, int k);

// y = x / sqrt(mean(x^2) + epsilon) * weight, all [n].
void RmsNorm(const float* x, const float* weight, int n, float epsilon,
             float* y);

// gate = silu(gate) * up, both [n].
void SiluMul(float* gate, const float* up, int n);

// As kernels/column_attention.h, in f32 whatever args.form says.
void ColumnAttention(const ColumnAttentionArgs& args);
// gate = gelu(gate) * up with the tanh approximation, both [n].
void GeluMul(float* gate, const float* up, int n);

// x = cap * tanh(x / cap), [n].
void SoftCap(float cap, int n, float* x);

// As kernels/window_scores.h.
void WindowScores(const WindowScoresArgs& args, float* const* score,
                  float* const* mass);

// As kernels/nearest.h.
void UpdateNearest(const NearestArgs& args, float* score, int32_t* index);

}  // namespace pyramidkv::reference

#endif  // PYRAMIDKV_KERNELS_SCALAR_REFERENCE_H_
