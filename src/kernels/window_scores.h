// Attention of the last queries (the observation window) over all entries of
// a layer, reduced to one importance per entry and KV head.
//
// Source: SnapKV (arXiv 2404.14469), section 4. Departures: reduced over the
// query heads of a KV head, so that one set of entries serves the group.

#ifndef PYRAMIDKV_KERNELS_WINDOW_SCORES_H_
#define PYRAMIDKV_KERNELS_WINDOW_SCORES_H_

#include <cstddef>

#include "base/thread_pool.h"

namespace pyramidkv {

struct WindowScoresArgs {
  int kv_heads = 0;
  int group = 0;  // query heads per KV head
  int head_dim = 0;
  const int* n = nullptr;  // [kv_heads] entries of each KV head
  int rows = 0;            // window queries, the newest last; rows <= every n
  float scale = 0;         // on q.k
  // q [rows, kv_heads * group, head_dim] after RoPE. Row r sits at entry
  // n[h] - rows + r and sees the entries up to there.
  const float* q = nullptr;
  const float* const* k = nullptr;  // [kv_heads] -> [n[h], head_dim]
  // [kv_heads] -> [n[h]], finite, added to the logits of each entry (the
  // logarithm of the count that a merged entry stands for). Null, or null for
  // a head: none.
  const float* const* bias = nullptr;
  bool max_rows = false;  // reduce over rows: max, else mean
  enum class Group { kMean, kMax, kSum } group_reduce = Group::kMean;
};

// score[h] -> [n[h]]: softmax over all visible entries, reduced over rows,
// then over the group. mass[h] -> [n[h]]: mean over rows and group, whatever
// the reductions (so it sums to 1 per KV head); may be null.
void WindowScores(const WindowScoresArgs& args, ThreadPool* pool,
                  float* const* score, float* const* mass);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_WINDOW_SCORES_H_
