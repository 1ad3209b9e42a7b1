// The size of what an entry adds when it is attended to, and CriticalKV's
// second stage that ranks by it.
//
// Source: CriticalKV (arXiv 2502.03805), algorithm 1, and NVIDIA kvpress,
// criticalkv_press.py.

#ifndef PYRAMIDKV_POLICY_VALUE_NORMS_H_
#define PYRAMIDKV_POLICY_VALUE_NORMS_H_

#include <span>

#include "kernels/weight_matrix.h"

namespace pyramidkv {

// norm[j] = ||v[j]||_2. v: [n, head_dim]; norm: [n].
void ValueNorms(std::span<const float> v, int n, int head_dim,
                std::span<float> norm);

struct ProjectedValueArgs {
  // The output projection [embedding, heads * head_dim], in the file's type.
  WeightMatrix output;
  int kv_head = 0;
  int group = 0;  // query heads per KV head
  int n = 0;
  int head_dim = 0;
  std::span<const float> v;  // [n, head_dim] of the KV head
};

// norm[j] = mean over the group of ||Wo_h v[j]||_1, where Wo_h are the columns
// of query head h: what the entry adds to the hidden state, as the sum of
// absolute values. As many operations as the output projection of n rows:
// 2 * group * n * head_dim * embedding. Holds 128 rows of Wo_h in f32.
// norm: [n].
void ProjectedValueNorms(const ProjectedValueArgs& args, std::span<float> norm);

// out[j], to be ranked: the best budget / 2 entries by `base` get the largest
// float (of equal ones the first), all others (base[j] + 1e-4) * norm[j] and
// less than that. NaN becomes minus infinity. base, norm, out: [n]; `budget`
// counts the entries of these n that will stay.
//
// Departures: products are capped, where kvpress' head-adaptive form lets the
// mark overflow to infinity; a budget of 0 or 1 marks none. `base` is meant to
// be a share of attention: where a score is negative (key norms), the lowest
// one counts as 0, or a large norm would lower the rank.
void CriticalScores(std::span<const float> base, std::span<const float> norm,
                    int budget, std::span<float> out);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_VALUE_NORMS_H_
