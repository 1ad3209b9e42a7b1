#include "kernels/matmul_rows.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "kernels/elementwise.h"

namespace pyramidkv {
namespace {

constexpr int kChunk = 64;  // weight rows of one work item
static_assert(kChunk % kGroupRows == 0);

const ggml_type_traits_cpu* CpuTraits(int type) {
  return ggml_get_type_traits_cpu(static_cast<ggml_type>(type));
}

// x -= what `block` holds of it, for ggml's 8-bit activation blocks: a scale
// in front (f16, f32 in Q8_K), then, after `gap` bytes, the values.
void Subtract(int dot_type, const std::byte* block, int cols, float* x) {
  const bool wide = dot_type == GGML_TYPE_Q8_K;
  const int size =
      static_cast<int>(ggml_blck_size(static_cast<ggml_type>(dot_type)));
  const size_t bytes = ggml_type_size(static_cast<ggml_type>(dot_type));
  const size_t values = wide || dot_type == GGML_TYPE_Q8_1 ? 4 : 2;
  for (int first = 0; first < cols; first += size, block += bytes) {
    float scale;
    if (wide) {
      std::memcpy(&scale, block, sizeof(scale));
    } else {
      ggml_fp16_t half;
      std::memcpy(&half, block, sizeof(half));
      scale = ggml_fp16_to_fp32(half);
    }
    const auto* q = reinterpret_cast<const int8_t*>(block + values);
    for (int i = 0; i < size; ++i) {
      x[first + i] -= scale * static_cast<float>(q[i]);
    }
  }
}

void ExactChunk(const RowsProduct& p, int first, int count) {
  const WeightMatrix& w = *p.w;
  static thread_local AlignedBuffer<float> expanded;
  expanded.Resize(size_t(count) * w.cols);
  DequantizeRows(w, first, count, expanded.data());
  for (int j = 0; j < count; ++j) {
    for (int r = 0; r < p.x->rows(); ++r) {
      p.y[r * p.y_stride + first + j] =
          DotF32(expanded.data() + size_t(j) * w.cols,
                 p.x->x() + size_t(r) * w.cols, w.cols);
    }
  }
}

void QuantizedChunk(const RowsProduct& p, int first, int count) {
  const WeightMatrix& w = *p.w;
  const ggml_type_traits_cpu* traits = CpuTraits(w.type);
  const int planes = RowsInput::Planes(traits->vec_dot_type);
  for (int j = first; j < first + count; ++j) {
    for (int r = 0; r < p.x->rows(); ++r) {
      float sum = 0;
      for (int plane = 0; plane < planes; ++plane) {
        float part;
        traits->vec_dot(w.cols, &part, 0, w.row(j), 0,
                        p.x->quantized(traits->vec_dot_type, r, plane), 0, 1);
        sum += part;
      }
      p.y[r * p.y_stride + j] = sum;
    }
  }
}

void TileChunk(const RowsProduct& p, int first, int count) {
  MultiplyTiles(TileFormatOf(p.w->type), p.w->tiles, p.w->rows, p.x->int8(),
                first / kGroupRows, GroupsOf(count), p.y, p.y_stride);
}

void RunChunk(const RowsProduct& p, int chunk) {
  const int first = chunk * kChunk;
  const int count = std::min(kChunk, p.w->rows - first);
  if (p.x->exact() || CpuTraits(p.w->type)->vec_dot == nullptr) {
    ExactChunk(p, first, count);
  } else if (p.w->tiles != nullptr) {
    TileChunk(p, first, count);
  } else {
    QuantizedChunk(p, first, count);
  }
  if (p.bias == nullptr) return;
  for (int r = 0; r < p.x->rows(); ++r) {
    AddTo(p.bias + first, count, p.y + r * p.y_stride + first);
  }
}

}  // namespace

int RowsInput::Planes(int dot_type) {
  return dot_type == GGML_TYPE_Q8_0 || dot_type == GGML_TYPE_Q8_1 ||
                 dot_type == GGML_TYPE_Q8_K
             ? 2
             : 1;
}

void RowsInput::Set(const float* x, int rows, int cols, bool exact) {
  DCHECK(rows <= kMaxRows);
  x_ = x;
  rows_ = rows;
  cols_ = cols;
  exact_ = exact;
  has_int8_ = false;
  for (Form& form : forms_) form.valid = false;
}

void RowsInput::PrepareFor(const WeightMatrix& w, ThreadPool* pool) {
  if (w.tiles != nullptr && !exact_) {
    if (!has_int8_) int8_.Set(x_, rows_, cols_, /*fine_rows=*/rows_, pool);
    has_int8_ = true;
    return;
  }
  const ggml_type_traits_cpu* traits = CpuTraits(w.type);
  if (exact_ || traits->vec_dot == nullptr) return;
  const int dot_type = traits->vec_dot_type;
  auto form = std::find_if(forms_.begin(), forms_.end(), [&](const Form& f) {
    return f.dot_type == dot_type;
  });
  if (form == forms_.end()) {
    forms_.emplace_back();
    form = forms_.end() - 1;
    form->dot_type = dot_type;
  }
  if (form->valid) return;
  form->row_bytes = ggml_row_size(static_cast<ggml_type>(dot_type), cols_);
  const int planes = Planes(dot_type);
  const size_t plane_bytes = form->row_bytes * kMaxRows;
  form->data.Resize(plane_bytes * planes);
  for (int r = 0; r < rows_; ++r) {
    const float* row = x_ + size_t(r) * cols_;
    std::byte* to = form->data.data() + r * form->row_bytes;
    if (dot_type == GGML_TYPE_F32) {
      std::copy(row, row + cols_, reinterpret_cast<float*>(to));
    } else {
      CpuTraits(dot_type)->from_float(row, to, cols_);
      if (planes == 1) continue;
      rest_.Resize(cols_);
      std::copy(row, row + cols_, rest_.data());
      Subtract(dot_type, to, cols_, rest_.data());
      CpuTraits(dot_type)->from_float(rest_.data(), to + plane_bytes, cols_);
    }
  }
  form->valid = true;
}

const std::byte* RowsInput::quantized(int dot_type, int row, int plane) const {
  for (const Form& form : forms_) {
    if (form.dot_type == dot_type) {
      return form.data.data() + (plane * kMaxRows + row) * form.row_bytes;
    }
  }
  return nullptr;
}

void MultiplyRows(std::span<const RowsProduct> products, ThreadPool* pool) {
  int chunks = 0;
  for (const RowsProduct& p : products) {
    chunks += (p.w->rows + kChunk - 1) / kChunk;
  }
  pool->ParallelRanges(chunks, [&](int i, int) {
    for (const RowsProduct& p : products) {
      const int own = (p.w->rows + kChunk - 1) / kChunk;
      if (i < own) return RunChunk(p, i);
      i -= own;
    }
  });
}

}  // namespace pyramidkv
