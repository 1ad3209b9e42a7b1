// The small row operations between matrix products. Rows are independent:
// a result never depends on what else is in the batch.

#ifndef PYRAMIDKV_KERNELS_ELEMENTWISE_H_
#define PYRAMIDKV_KERNELS_ELEMENTWISE_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

// y = x / sqrt(mean(x^2) + epsilon) * weight, all [n]; y may be x.
void RmsNorm(const float* x, const float* weight, size_t n, float epsilon,
             float* y);

// gate = gate / (1 + exp(-gate)) * up, both [n].
void SiluMul(float* gate, const float* up, size_t n);

// gate = gelu(gate) * up, both [n]; gelu with its tanh approximation.
// Source: GELU (arXiv 1606.08415), section 2.
void GeluMul(float* gate, const float* up, size_t n);

// x = cap * tanh(x / cap), [n]. REQUIRES: cap > 0.
void SoftCap(float cap, size_t n, float* x);

// y += x, both [n].
void AddTo(const float* x, size_t n, float* y);

// to[i] = bf16 of from[i], rounded to nearest even.
void ToBf16(const float* from, size_t n, uint16_t* to);

// Sum of a[i] * b[i].
float DotF32(const float* a, const float* b, size_t n);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ELEMENTWISE_H_
