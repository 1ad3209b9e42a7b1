// Matrix products of few rows (generated and forced tokens): on repacked
// weights (kernels/matmul_int8.h) or, where there are none, ggml's `vec_dot`
// on the rows of the mapped file. A batch reads the weights once; a row's
// result does not depend on the other rows.
//
// Activations are quantised twice where the dot product wants 8 bits: the
// second plane is what the first one lost. One plane alone adds as much noise
// as llama.cpp has, and the two together part from it too often.

#ifndef PYRAMIDKV_KERNELS_MATMUL_ROWS_H_
#define PYRAMIDKV_KERNELS_MATMUL_ROWS_H_

#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/matmul_int8.h"
#include "kernels/weight_matrix.h"

namespace pyramidkv {

inline constexpr int kMaxRows = 16;  // rows of one pass

// Input rows, quantised as each weight type's dot product wants them.
class RowsInput {
 public:
  // x [rows, cols] f32, packed; stays referenced until the next Set.
  // exact: dot products in f32 on expanded weights, nothing is quantised.
  void Set(const float* x, int rows, int cols, bool exact);
  // Quantises for products with w and its like (once per form).
  void PrepareFor(const WeightMatrix& w, ThreadPool* pool);

  const float* x() const { return x_; }
  int rows() const { return rows_; }
  int cols() const { return cols_; }
  bool exact() const { return exact_; }
  // REQUIRES: PrepareFor(a matrix with tiles).
  const Int8Rows& int8() const { return int8_; }
  // REQUIRES: PrepareFor(one without, with this dot-product type).
  const std::byte* quantized(int dot_type, int row, int plane) const;
  // Planes whose dot products add up to the whole: 1 or 2.
  static int Planes(int dot_type);

 private:
  struct Form {
    int dot_type = -1;
    size_t row_bytes = 0;
    AlignedBuffer<std::byte> data;  // [planes, rows]
    bool valid = false;
  };
  const float* x_ = nullptr;
  int rows_ = 0;
  int cols_ = 0;
  bool exact_ = false;
  Int8Rows int8_;
  bool has_int8_ = false;
  std::vector<Form> forms_;
  AlignedBuffer<float> rest_;  // what a row's first plane lost
};

// y [rows, w.rows] = x * transpose(w) + bias, rows of y y_stride apart.
struct RowsProduct {
  const WeightMatrix* w = nullptr;
  const RowsInput* x = nullptr;
  const float* bias = nullptr;  // [w.rows] or null
  float* y = nullptr;
  size_t y_stride = 0;
};

// All products in one fork-join. REQUIRES: their inputs are prepared.
void MultiplyRows(std::span<const RowsProduct> products, ThreadPool* pool);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_ROWS_H_
