// The attention that entries receive from rows of a prompt, for the methods
// that sum it or take its maximum.

#ifndef PYRAMIDKV_POLICY_SCORERS_RECEIVED_H_
#define PYRAMIDKV_POLICY_SCORERS_RECEIVED_H_

#include <vector>

#include "base/thread_pool.h"
#include "kernels/column_attention.h"
#include "policy/layer_view.h"
#include "policy/spec.h"

namespace pyramidkv {

// The spec's reduction over a group as kernels name it.
WindowScoresArgs::Group KernelGroup(GroupReduce reduce);

class Received {
 public:
  // max_rows: the most from one row, else the sum over rows. `view` must
  // outlive this.
  Received(const LayerView& view, bool max_rows);

  // From all fresh rows to entries at least `min_distance` before them. lse:
  // the view's, or another for the same rows.
  void AddFresh(const float* lse, int min_distance, ThreadPool* pool);

  // From rows after all entries, to the ones that they repeat.
  void AddRepetition(const ObserverRows& rows, ThreadPool* pool);

  // When all rows are in: over the query heads of each KV head.
  HeadScores Reduce(GroupReduce group) const;

 private:
  ColumnAttentionArgs Args(int h, const float* q, const float* lse);

  const LayerView& view_;
  bool max_rows_;
  std::vector<std::vector<float>> parts_;  // [kv_heads] of [group, n[h]]
};

// Adds the scores that earlier passes gathered, times `factor`; or takes the
// larger of both.
void AddPastScores(const LayerView& view, float factor, bool take_max,
                   HeadScores* scores);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SCORERS_RECEIVED_H_
