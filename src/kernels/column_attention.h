// Each entry receives attention from many query rows: columns of the attention
// matrix, summed or maximised over the rows, without that matrix.
//
// A row's probabilities follow from the log-sum-exp that attention over the
// same logits has given (kernels/attention_prefill.h), so this costs the
// product of queries and keys once more, and no values.
//
// Entries lie in lanes, and the rows are added to what was there one after
// the other: an entry's result depends on the queries and their order alone -
// never on threads, on the columns it was asked for with, or on how the rows
// are cut into calls.
//
// Sources: column sums are H2O's heavy hitters (arXiv 2306.14048, section 4),
// maxima over rows that reconstruct the context KVzip's importance (arXiv
// 2505.23416, section 3); probabilities recomputed block by block as in the
// backward pass of FlashAttention (arXiv 2205.14135, algorithm 4).

#ifndef PYRAMIDKV_KERNELS_COLUMN_ATTENTION_H_
#define PYRAMIDKV_KERNELS_COLUMN_ATTENTION_H_

#include <algorithm>
#include <cstddef>
#include <span>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/attention_form.h"
#include "kernels/window_scores.h"

namespace pyramidkv {

inline constexpr int kColumnBlock = 192;  // entries that share a pass over rows
inline constexpr int kColumnRows = 8;     // rows of a tile

// Consecutive rows of one sequence and one KV head.
struct ColumnAttentionArgs {
  int group = 0;     // query heads of the KV head
  int head_dim = 0;  // multiple of 8
  float scale = 0;   // on q.k
  int rows = 0;
  // q after RoPE: row i, head g at q + i * q_stride + g * head_dim.
  const float* q = nullptr;
  size_t q_stride = 0;
  // Log-sum-exp of each row's logits: lse + i * lse_stride + g.
  const float* lse = nullptr;
  size_t lse_stride = 0;
  const float* k = nullptr;     // [entries, head_dim]
  const float* bias = nullptr;  // [entries], added to the logits; null: none
  // Row i is entry first_end + i - 1 and sees the entries [0, first_end + i).
  int first_end = 0;
  // An entry receives only from rows that are at least so many entries
  // after it; 0: from itself, too.
  int min_distance = 0;
  int from = 0, to = 0;   // the columns wanted, [from, to)
  bool max_rows = false;  // maximum over the rows, else their sum
  // The one of the attention that gave lse: products take the same, so that
  // a row's probabilities sum to 1 (kInt16 is near enough to f32).
  AttentionForm form = AttentionForm::kF32;
  // Column j of head g at received[g * received_stride + j - from]: what was
  // there plus the sum, or the larger of it and the maximum. Start with 0.
  float* received = nullptr;
  size_t received_stride = 0;

  // Row i gives to the entries [0, limit(i)).
  int limit(int i) const { return first_end + i - min_distance; }
  // The first row that gives to `entry`.
  int first_row(int entry) const {
    return std::max(entry + 1 - first_end + min_distance, 0);
  }
};

// Memory that one worker reuses from call to call.
struct ColumnScratch {
  void Resize(int group, int head_dim) {
    k.Resize(size_t{kColumnBlock} * head_dim);
    q.Resize(size_t{kColumnRows} * group * head_dim);
    lse.Resize(size_t{kColumnRows} * group);
    sums.Resize(size_t(group + 1) * kColumnBlock);
  }
  AlignedBuffer<float> k, q, lse, sums;
};

// One KV head on the calling thread.
void ColumnAttention(const ColumnAttentionArgs& args, ColumnScratch* scratch);

// Several, such as all KV heads of a layer, which may differ in everything;
// cut over heads and blocks of columns.
void ColumnAttention(std::span<const ColumnAttentionArgs> heads,
                     ThreadPool* pool);

// out[j] = `reduce` over g of received[g * stride + j], j in [0, n). Only
// when all rows are in: neither a maximum of sums nor a mean of maxima can
// be had from parts.
void ReduceReceived(const float* received, size_t stride, int group, int n,
                    WindowScoresArgs::Group reduce, float* out);

// The columns of one block, at most kColumnBlock, in bf16. Part of
// ColumnAttention; scratch sized for it.
void ColumnBlockBf16(const ColumnAttentionArgs& args, int from, int to,
                     ColumnScratch* scratch);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_COLUMN_ATTENTION_H_
