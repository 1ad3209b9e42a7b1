// Matrix products of prompt rows, many at once: in 8 bits on repacked weights
// (kernels/matmul_int8.h) or, where there are none, through oneDNN in bf16 or
// f32. For the latter, weights are expanded from their file's type and packed
// once per layer and prompt, and rows go through in tiles of exactly
// kPromptTile, so that a row's result does not depend on how many rows the
// call had.
//
// oneDNN runs single-threaded inside our workers; parallelism is over tiles.
//
// Thread safety: Pack and Multiply may run in several workers at once, each
// with its own worker number.

#ifndef PYRAMIDKV_KERNELS_MATMUL_PROMPT_H_
#define PYRAMIDKV_KERNELS_MATMUL_PROMPT_H_

#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/weight_matrix.h"

namespace pyramidkv {

// Rows: a multiple of what the attention kernels (16) and the int8 kernels
// (12) take at once.
inline constexpr int kPromptTile = 48;
inline constexpr int kPanelRows = 512;  // most outputs of one packed panel

// Packed weights of one matrix; reused for the same matrix of every layer.
struct PackedMatrix {
  const WeightMatrix* tiled = nullptr;  // used as it is: nothing to pack
  int outputs = 0;
  int inputs = 0;
  std::vector<AlignedBuffer<std::byte>> panels;

  int panel_count() const {
    return tiled != nullptr ? 0 : (outputs + kPanelRows - 1) / kPanelRows;
  }
};

// Arithmetic of the products. kInt8: of matrices with tiles, else bf16 where
// the CPU multiplies it natively, else f32. Sums are f32 in all.
enum class PromptCompute { kF32, kBf16, kInt8 };

// Rows of a tile that count, and how many of these, from the first on, kInt8
// rounds to 16 bits.
struct PromptRows {
  int count = kPromptTile;
  int fine = 0;
};

class PromptMatMul {
 public:
  PromptMatMul(int workers, PromptCompute compute);
  ~PromptMatMul();

  // Shapes `packed` for matrices like w, which must outlive its use. Call
  // before Pack, from one thread.
  void Prepare(const WeightMatrix& w, PackedMatrix* packed);

  // Expands the rows of panel `panel` of w.
  void Pack(const WeightMatrix& w, int panel, int worker, PackedMatrix* packed);

  // The input of the worker's next products, which it must outlive:
  // x [kPromptTile, inputs] f32. It is rounded once for all products that
  // share it.
  void SetInput(const float* x, PromptRows rows, int inputs, int worker);
  // y [kPromptTile, outputs] f32 = input * transpose(w). Rows that do not
  // count are undefined.
  void Multiply(const PackedMatrix& packed, float* y, int worker);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_PROMPT_H_
