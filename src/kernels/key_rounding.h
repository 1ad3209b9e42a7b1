// Two things make quantised keys err less: their mean, which is taken off
// before they are rounded, and the channels that queries are large in.
//
// Attention adds up q.k over channels. The mean of a head's keys adds the same
// to all logits of a query, q.mean, so it need not be rounded with each key,
// and the rest takes smaller steps. An error of a key counts by the queries'
// size in its channel: of the codes around a key, those are taken that err
// where queries are small (kernels/kv_quant.h).
// Sources: removing the mean, SageAttention (arXiv 2410.02367), section 4.2;
// rounding by what multiplies the result, GPTQ (arXiv 2210.17323), section 3,
// here by coordinate descent. Both from a prompt's own keys and last queries.
//
// A key rounding is [2, head_dim]: the means of channels, and the weights of
// channels as the rotation of kv_quant.h mixes them: of each block, the
// Hadamard transform of the weights, over their sum. Callable from any thread.

#ifndef PYRAMIDKV_KERNELS_KEY_ROUNDING_H_
#define PYRAMIDKV_KERNELS_KEY_ROUNDING_H_

#include <cstddef>
#include <span>
#include <vector>

namespace pyramidkv {

// The rounding for rows k [rows, head_dim] and q [queries, group, head_dim], of
// which the rows of one query lie `q_stride` values apart. REQUIRES: rows,
// queries > 0. Where they are not finite, what changes nothing but ties.
std::vector<float> FitKeyRounding(int head_dim, int rows, const float* k,
                                  int queries, int group, size_t q_stride,
                                  const float* q);

// The rounding for rows k alone, before there are queries to weigh channels by.
std::vector<float> FitKeyMeans(int head_dim, int rows, const float* k);
bool HasWeights(std::span<const float> rounding, int head_dim);

// Whether it can be one: anything else is damaged.
bool IsKeyRounding(std::span<const float> rounding, int head_dim);

// q.mean: what products of a query [head_dim] with stored keys lack.
float QueryShift(const float* rounding, int head_dim, const float* q);

// Adds the mean to rows of k [rows, head_dim].
void AddKeyMean(const float* rounding, int head_dim, int rows, float* k);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_KEY_ROUNDING_H_
