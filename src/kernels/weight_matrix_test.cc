#include "kernels/weight_matrix.h"

#include <ggml.h>

#include <cmath>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kRows = 5;
constexpr int kCols = 256;

std::vector<float> Values() {
  std::vector<float> values(kRows * kCols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(0.37f * static_cast<float>(i));
  }
  return values;
}

// Largest error of values in [-1, 1] after a round trip through `type`.
float RoundTripError(ggml_type type, int first, int count) {
  const std::vector<float> values = Values();
  const size_t row_bytes = ggml_row_size(type, kCols);
  std::vector<std::byte> data(row_bytes * kRows);
  ggml_quantize_chunk(type, values.data(), data.data(), 0, kRows, kCols,
                      nullptr);
  const WeightMatrix w = {data.data(), type, kRows, kCols, row_bytes};
  std::vector<float> out(count * kCols + 1, 7.0f);
  DequantizeRows(w, first, count, out.data());
  EXPECT_EQ(out.back(), 7.0f);  // nothing behind the rows is written
  float error = 0;
  for (int i = 0; i < count * kCols; ++i) {
    error = std::fmax(error, std::fabs(out[i] - values[first * kCols + i]));
  }
  return error;
}

TEST(WeightMatrixTest, RowsComeBack) {
  const struct {
    ggml_type type;
    float tolerance;
  } kCases[] = {{GGML_TYPE_F32, 0.0f},   {GGML_TYPE_F16, 5e-4f},
                {GGML_TYPE_BF16, 4e-3f}, {GGML_TYPE_Q8_0, 5e-3f},
                {GGML_TYPE_Q6_K, 0.04f}, {GGML_TYPE_Q5_1, 0.04f},
                {GGML_TYPE_Q4_0, 0.15f}, {GGML_TYPE_Q4_1, 0.08f},
                {GGML_TYPE_Q4_K, 0.15f}, {GGML_TYPE_IQ4_NL, 0.15f}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(ggml_type_name(c.type));
    EXPECT_TRUE(WeightTypeSupported(c.type));
    EXPECT_LE(RoundTripError(c.type, 0, kRows), c.tolerance);
    EXPECT_LE(RoundTripError(c.type, 2, 1), c.tolerance);
    EXPECT_LE(RoundTripError(c.type, kRows - 1, 1), c.tolerance);
    EXPECT_EQ(RoundTripError(c.type, kRows, 0), 0.0f);
  }
}

TEST(WeightMatrixTest, ColumnsAreTheSameValues) {
  const std::vector<float> values = Values();
  const struct {
    ggml_type type;
    int block;
  } kCases[] = {{GGML_TYPE_F32, 1},
                {GGML_TYPE_F16, 1},
                {GGML_TYPE_Q4_0, 32},
                {GGML_TYPE_Q4_K, 256}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(ggml_type_name(c.type));
    const size_t row_bytes = ggml_row_size(c.type, kCols);
    std::vector<std::byte> data(row_bytes * kRows);
    ggml_quantize_chunk(c.type, values.data(), data.data(), 0, kRows, kCols,
                        nullptr);
    const WeightMatrix w = {data.data(), c.type, kRows, kCols, row_bytes};
    std::vector<float> all(kRows * kCols);
    DequantizeRows(w, 0, kRows, all.data());
    for (const auto& [first, count] :
         {std::pair{0, 256}, {0, 1}, {64, 64}, {33, 96}, {255, 1}, {160, 5}}) {
      int offset = -1;
      const WeightMatrix columns = ColumnsOf(w, first, count, &offset);
      EXPECT_EQ(offset, first % c.block);
      EXPECT_LT(columns.cols - count, 2 * c.block);
      std::vector<float> part(kRows * columns.cols);
      DequantizeRows(columns, 0, kRows, part.data());
      for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < count; ++i) {
          EXPECT_EQ(part[r * columns.cols + offset + i],
                    all[r * kCols + first + i]);
        }
      }
    }
  }
}

TEST(WeightMatrixTest, UnsupportedTypes) {
  for (int type :
       {-1, 4, 5, 1000, static_cast<int>(GGML_TYPE_COUNT),
        static_cast<int>(GGML_TYPE_I32), static_cast<int>(GGML_TYPE_F64)}) {
    EXPECT_FALSE(WeightTypeSupported(type)) << type;
  }
}

}  // namespace
}  // namespace pyramidkv
