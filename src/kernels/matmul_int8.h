// Matrix products of 8-bit activations and repacked weights (weight_tiles.h):
// integer dot products of each block of 32 columns, scaled and summed in f32
// block by block. Weights are exact; a row's result depends on its own values
// alone, and is the same in both forms.
//
// One set of kernels serves a single row, which memory bounds, and the tiles
// of a prompt, which arithmetic bounds.
//
// Activations are quantised per row and block of 32: to 8 bits, or (fine) to
// 16 bits as two planes of 8, which costs twice the arithmetic. One plane
// adds about as much noise as llama.cpp has, two add none that matters.

#ifndef PYRAMIDKV_KERNELS_MATMUL_INT8_H_
#define PYRAMIDKV_KERNELS_MATMUL_INT8_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "kernels/weight_tiles.h"

namespace pyramidkv {

// Prompt rows of one kernel: their sums fill the registers.
inline constexpr int kInt8RowGroup = 12;

// The instructions that the products are made of; the faster first.
enum class Int8Form { kVnni, kAvx2 };
inline constexpr Int8Form kInt8Forms[] = {Int8Form::kVnni, Int8Form::kAvx2};
const char* FormName(Int8Form form);
CpuFeatures FormNeeds(Int8Form form);

// True where the CPU runs one of the forms.
bool HasInt8Products(const CpuFeatures& cpu = Cpu());

// Rows are quantised in groups of rows that one kernel takes, whose blocks
// follow each other:
//   [group rows, planes, 32] s8, then for each row f32 scale, f32 scale times
//   the sum of the values, s32 minus that sum, s32 the same of the first half.
class Int8Rows {
 public:
  Int8Rows();  // the fastest form of this CPU
  // REQUIRES: a CPU with what the form needs.
  explicit Int8Rows(Int8Form form) : form_(form) {}

  struct Group {
    int first = 0, rows = 0;  // of x; the kernel may take more, padded
    int planes = 1;
    int padded_rows = 0;
    size_t offset = 0;  // into data()
  };

  // Quantises x [rows, cols], packed, the first `fine_rows` of them in two
  // planes. REQUIRES: HasInt8Products(), cols a multiple of kBlockCols.
  // pool: for more than a few rows; null: none.
  void Set(const float* x, int rows, int cols, int fine_rows,
           ThreadPool* pool = nullptr);

  Int8Form form() const { return form_; }
  int cols() const { return cols_; }
  std::span<const Group> groups() const { return groups_; }
  const std::byte* data() const { return data_.data(); }

 private:
  Int8Form form_;
  int cols_ = 0;
  std::vector<Group> groups_;
  AlignedBuffer<std::byte> data_;
};

// y[r * y_stride + 16 g ...] = dot products of row r and the weights of group
// g, for groups [first, first + count) of a matrix of `outputs` rows. tiles:
// all groups of the matrix.
void MultiplyTiles(const TileFormat& format, const std::byte* tiles,
                   int outputs, const Int8Rows& x, int first, int count,
                   float* y, size_t y_stride);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_MATMUL_INT8_H_
