// Rows that go through a layer block together, and how they are multiplied
// with its matrices: the one thing in which the rows of a prompt and generated
// ones differ. Prompt rows come as tiles, each in one worker, on packed
// weights; generated rows come a few at a time and share every product out
// among all workers.
//
// In both a row's result does not depend on the other rows.

#ifndef PYRAMIDKV_RUNTIME_BLOCK_ROWS_H_
#define PYRAMIDKV_RUNTIME_BLOCK_ROWS_H_

#include <span>

#include "kernels/matmul_prompt.h"
#include "kernels/matmul_rows.h"
#include "runtime/forward_context.h"

namespace pyramidkv {

// y [rows, w.rows] = x * transpose(w) + bias.
struct BlockProduct {
  const WeightMatrix* w = nullptr;
  const PackedMatrix* packed = nullptr;      // w's; for prompt rows alone
  const std::vector<float>* bias = nullptr;  // [w.rows], empty or null
  float* y = nullptr;
};

class BlockRows {
 public:
  virtual ~BlockRows() = default;

  // At most 3 products of one x [rows, inputs], f32. REQUIRES: all have the
  // same inputs.
  virtual void Multiply(const float* x,
                        std::span<const BlockProduct> products) = 0;

  int count() const { return count_; }
  // Row i's place among the pass's hidden states and rotations.
  int number(int i) const { return list_ == nullptr ? first_ + i : list_[i]; }

  // f(i) for every row, in parallel where that is worth a fork.
  template <class F>
  void ForEach(const F& f) const {
    if (pool_ == nullptr || count_ < kForkRows) {
      for (int i = 0; i < count_; ++i) f(i);
    } else {
      pool_->ParallelFor(count_, [&](int i, int) { f(i); });
    }
  }

 protected:
  static constexpr int kForkRows = 4;

  ThreadPool* pool_ = nullptr;  // null: these rows have one worker
  int count_ = 0;
  int first_ = 0;
  const int* list_ = nullptr;  // [count_] row numbers; null: first_, ...
};

// At most kMaxRows rows of a decode pass.
class GeneratedRows final : public BlockRows {
 public:
  // All that `context` points to must outlive this.
  explicit GeneratedRows(const ForwardContext& context)
      : exact_(context.exact) {
    pool_ = context.pool;
  }

  // Rows 0 to count - 1 of the pass.
  void Set(int count);
  // Rows of these numbers, which must outlive their use.
  void Set(std::span<const int> numbers);

  void Multiply(const float* x,
                std::span<const BlockProduct> products) override;

 private:
  bool exact_;
  RowsInput input_;
};

// The rows of one prompt tile, from number `first` on, in worker `worker`.
class PromptTileRows final : public BlockRows {
 public:
  PromptTileRows(const ForwardContext& context, int first, PromptRows rows,
                 int worker)
      : matmul_(*context.prompt_matmul), rows_(rows), worker_(worker) {
    count_ = rows.count;
    first_ = first;
  }

  // x and each y hold kPromptTile rows. REQUIRES: the layer is packed.
  void Multiply(const float* x,
                std::span<const BlockProduct> products) override;

 private:
  PromptMatMul& matmul_;
  PromptRows rows_;
  int worker_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_BLOCK_ROWS_H_
