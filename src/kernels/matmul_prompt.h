// Matrix products of prompt rows: many rows at once, through oneDNN.
//
// Weights are expanded from their file's type to bf16 or f32 and packed for
// oneDNN once per layer and prompt. Rows go through in tiles of exactly
// kPromptTile rows (the caller pads the last), so that a row's result does
// not depend on how many rows the call had.
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

inline constexpr int kPromptTile = 32;  // rows
inline constexpr int kPanelRows = 512;  // most outputs of one packed panel

// Packed weights of one matrix; reused for the same matrix of every layer.
struct PackedMatrix {
  int outputs = 0;
  int inputs = 0;
  std::vector<AlignedBuffer<std::byte>> panels;

  int panel_count() const { return (outputs + kPanelRows - 1) / kPanelRows; }
};

class PromptMatMul {
 public:
  // bf16: rows and weights are rounded to bf16, sums are f32; else all f32.
  PromptMatMul(int workers, bool bf16);
  ~PromptMatMul();

  bool bf16() const { return bf16_; }

  // Shapes `packed` for matrices like w. Call before Pack, from one thread.
  void Prepare(const WeightMatrix& w, PackedMatrix* packed);

  // Expands the rows of panel `panel` of w.
  void Pack(const WeightMatrix& w, int panel, int worker, PackedMatrix* packed);

  // The input of the worker's next products: x [kPromptTile, inputs] f32. It
  // is rounded to bf16 here, once for all products that share it; in f32
  // mode it must outlive them.
  void SetInput(const float* x, int inputs, int worker);
  // y [kPromptTile, outputs] f32 = input * transpose(w).
  void Multiply(const PackedMatrix& packed, float* y, int worker);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  bool bf16_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_PROMPT_H_
