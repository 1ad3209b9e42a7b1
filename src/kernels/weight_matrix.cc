#include "kernels/weight_matrix.h"

#include <ggml-cpu.h>
#include <ggml.h>

#include <cstring>

#include "base/check.h"

namespace pyramidkv {
namespace {

// ggml fills its conversion tables on first use of the CPU library.
void InitGgmlOnce() {
  static const bool initialized = (ggml_cpu_init(), true);
  (void)initialized;
}

}  // namespace

bool WeightTypeSupported(int type) {
  if (type == GGML_TYPE_F32) return true;
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  const ggml_type_traits* traits =
      ggml_get_type_traits(static_cast<ggml_type>(type));
  return traits->to_float != nullptr && traits->blck_size > 0;
}

void DequantizeRows(const WeightMatrix& w, int first, int count, float* out) {
  DCHECK(WeightTypeSupported(w.type));
  DCHECK(first >= 0 && count >= 0 && first <= w.rows - count);
  const size_t cols = w.cols;
  if (w.type == GGML_TYPE_F32) {  // the one type without a to_float
    for (int i = 0; i < count; ++i) {
      std::memcpy(out + i * cols, w.row(first + i), cols * sizeof(float));
    }
    return;
  }
  InitGgmlOnce();
  const ggml_to_float_t to_float =
      ggml_get_type_traits(static_cast<ggml_type>(w.type))->to_float;
  for (int i = 0; i < count; ++i) {
    to_float(w.row(first + i), out + i * cols, w.cols);
  }
}

WeightMatrix ColumnsOf(const WeightMatrix& w, int first, int count,
                       int* offset) {
  DCHECK(first >= 0 && count >= 0 && first <= w.cols - count);
  const ggml_type type = static_cast<ggml_type>(w.type);
  const int block = static_cast<int>(ggml_blck_size(type));
  const int begin = first / block;
  const int end = (first + count + block - 1) / block;
  *offset = first - begin * block;
  WeightMatrix columns = w;  // the same distance from row to row
  columns.data += begin * ggml_type_size(type);
  columns.cols = (end - begin) * block;
  return columns;
}

}  // namespace pyramidkv
