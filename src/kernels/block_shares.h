// A cheap estimate of which blocks of entries some queries attend to: softmax
// over averages of a few neighbouring keys, summed by block. It costs about a
// fiftieth of the attention that it may save.

#ifndef PYRAMIDKV_KERNELS_BLOCK_SHARES_H_
#define PYRAMIDKV_KERNELS_BLOCK_SHARES_H_

#include <cstddef>

#include "base/aligned_buffer.h"
#include "kernels/attention_prefill.h"

namespace pyramidkv {

inline constexpr int kPooledKeys = 8;  // entries of an average
inline constexpr int kPoolsOfBlock = kKeyBlock / kPooledKeys;

// Averages the keys of block `block`, k [entries, head_dim] from entry 0 on,
// into pooled [blocks, head_dim, kPoolsOfBlock]. REQUIRES: the block is whole.
void PoolBlock(const float* k, int block, int head_dim, float* pooled);

struct BlockSharesArgs {
  const float* q = nullptr;  // [queries, head_dim]
  int queries = 0;
  int head_dim = 0;
  float scale = 0;
  const float* pooled = nullptr;  // [blocks, head_dim, kPoolsOfBlock]
  int blocks = 0;
  float* share = nullptr;  // [queries, blocks], each query's sum to 1
};

// scratch: grown as needed.
void BlockShares(const BlockSharesArgs& args, AlignedBuffer<float>* scratch);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_BLOCK_SHARES_H_
