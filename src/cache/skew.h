// For each layer and KV head an orthogonal matrix that turns queries and keys
// so that few of their numbers decide q.k, and the file that it is kept in.
//
// Source: InfiniGen (arXiv 2406.19707), section 4.2. Departures: RoPE stands
// between the weights and q.k, so the matrix is applied to q and k after it
// instead of being folded into the weights; one matrix per KV head, from the
// queries of its whole group; the columns are ordered once, when it is made,
// by the product of both spectra (keys less their mean, which ranks nothing),
// not for every prompt by the sum of |q|.

#ifndef PYRAMIDKV_CACHE_SKEW_H_
#define PYRAMIDKV_CACHE_SKEW_H_

#include <string>
#include <vector>

#include "kernels/rope.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Writes skew [head_dim, head_dim], orthogonal: its rows are the right
// singular vectors of q [queries, head_dim], those that matter most for q.k
// first. k: [keys, head_dim]. Rows that are not finite do not count. The same
// input gives the same bits.
void ComputeSkew(const float* q, int queries, const float* k, int keys,
                 int head_dim, float* skew);

// Turns rows [rows, heads, head_dim], which were rotated for the positions
// from `first` on, to positions spread over [0, span). Slow channels of RoPE
// have one direction in a sample and others in a longer context: a matrix from
// positions that do not reach so far is worse there than none (the sign index
// finds more). So spread queries and keys of a sample over the context before
// ComputeSkew.
void SpreadPositions(const Rotation& rope, int rows, int heads, int head_dim,
                     int first, int span, float* x);

struct SkewTable {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::vector<float> skew;  // [layers, kv_heads, head_dim, head_dim]
};

// model: says which model it was made for; whatever tells two apart.
// At every moment `path` is the old file or the new one, whole.
// Errors: kRuntime, what the system says.
Status SaveSkew(const std::string& path, const std::string& model,
                const SkewTable& table);

// Errors: kModel, with the path: missing, damaged, of another version, for
// another model or of another shape (layers, kv_heads and head_dim of
// `expected`). Whoever gets one makes the table again.
Result<SkewTable> LoadSkew(const std::string& path, const std::string& model,
                           const SkewTable& expected);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_SKEW_H_
