// A random matrix of any type that ggml can quantise to, and its values.

#ifndef PYRAMIDKV_KERNELS_TESTING_QUANTIZED_MATRIX_H_
#define PYRAMIDKV_KERNELS_TESTING_QUANTIZED_MATRIX_H_

#include <vector>

#include "base/aligned_buffer.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "kernels/testing/all_targets.h"
#include "kernels/weight_tiles.h"

namespace pyramidkv {

struct QuantizedMatrix {
  QuantizedMatrix(ggml_type type, int rows, int cols)
      : data(ggml_row_size(type, cols) * rows), values(size_t(rows) * cols) {
    ggml_cpu_init();
    const auto source = RandomFloats(size_t(rows) * cols, 1, 0.1f);
    ggml_quantize_chunk(type, source.data(), data.data(), 0, rows, cols,
                        nullptr);
    matrix = {data.data(), type, rows, cols, ggml_row_size(type, cols)};
    DequantizeRows(matrix, 0, rows, values.data());
  }

  // From now on the matrix has tiles. REQUIRES: its type has.
  void Tile() {
    const size_t bytes = TileFormatOf(matrix.type).group_bytes(matrix.cols);
    tiles.Resize(bytes * GroupsOf(matrix.rows));
    for (int g = 0; g < GroupsOf(matrix.rows); ++g) {
      PackTiles(matrix, g, tiles.data() + g * bytes);
    }
    matrix.tiles = tiles.data();
  }

  std::vector<std::byte> data;
  AlignedBuffer<std::byte> tiles;
  std::vector<float> values;  // [rows, cols]
  WeightMatrix matrix;
};

// Types that have tiles.
inline constexpr ggml_type kTiledTypes[] = {
    GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
    GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_TESTING_QUANTIZED_MATRIX_H_
