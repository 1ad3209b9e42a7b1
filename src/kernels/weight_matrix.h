// A view of one weight matrix as it lies in a model file.

#ifndef PYRAMIDKV_KERNELS_WEIGHT_MATRIX_H_
#define PYRAMIDKV_KERNELS_WEIGHT_MATRIX_H_

#include <cstddef>
#include <cstdint>

namespace pyramidkv {

// [rows, cols], row-major, each row a whole number of quantisation blocks.
// y = W x maps cols inputs to rows outputs. (ggml writes the same shape as
// ne = {cols, rows}: its order is innermost first.)
struct WeightMatrix {
  const std::byte* data = nullptr;
  int type = 0;  // a ggml_type
  int rows = 0;
  int cols = 0;
  size_t row_bytes = 0;
  // All groups of the rows, repacked (kernels/weight_tiles.h), or null.
  const std::byte* tiles = nullptr;

  bool empty() const { return data == nullptr; }
  const std::byte* row(int r) const { return data + r * row_bytes; }
};

// out[i * cols ...] = row `first + i` of w as f32, for i < count. Goes through
// ggml's `to_float`. REQUIRES: WeightTypeSupported(w.type).
void DequantizeRows(const WeightMatrix& w, int first, int count, float* out);

// Columns first ... first + count - 1 of w and what shares a quantisation
// block with them: a view to dequantise, in whose rows `first` lies `*offset`
// values after the start. REQUIRES: the columns are w's.
WeightMatrix ColumnsOf(const WeightMatrix& w, int first, int count,
                       int* offset);

// True if ggml can turn the type into f32 (and thus we can compute with it).
bool WeightTypeSupported(int type);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_WEIGHT_MATRIX_H_
