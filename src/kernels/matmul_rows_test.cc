#include "kernels/matmul_rows.h"

#include <cmath>

#include "ggml-cpu.h"
#include "ggml.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// A random matrix of any type that ggml can quantise to, and its values.
struct Quantized {
  Quantized(ggml_type type, int rows, int cols)
      : data(ggml_row_size(type, cols) * rows), values(size_t(rows) * cols) {
    ggml_cpu_init();
    const auto source = RandomFloats(size_t(rows) * cols, 1, 0.1f);
    ggml_quantize_chunk(type, source.data(), data.data(), 0, rows, cols,
                        nullptr);
    matrix = {data.data(), type, rows, cols, ggml_row_size(type, cols)};
    DequantizeRows(matrix, 0, rows, values.data());
  }
  std::vector<std::byte> data;
  std::vector<float> values;
  WeightMatrix matrix;
};

std::vector<float> Multiply(const WeightMatrix& w, const std::vector<float>& x,
                            int rows, bool exact, int threads,
                            const float* bias = nullptr) {
  ThreadPool pool(threads);
  RowsInput input;
  input.Set(x.data(), rows, w.cols, exact);
  input.PrepareFor(w.type);
  std::vector<float> y(size_t(rows) * w.rows);
  const RowsProduct product{&w, &input, bias, y.data(), size_t(w.rows)};
  MultiplyRows({&product, 1}, &pool);
  return y;
}

const ggml_type kTypes[] = {GGML_TYPE_F32,  GGML_TYPE_F16,    GGML_TYPE_BF16,
                            GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,   GGML_TYPE_Q5_0,
                            GGML_TYPE_Q5_1, GGML_TYPE_Q8_0,   GGML_TYPE_Q2_K,
                            GGML_TYPE_Q3_K, GGML_TYPE_Q4_K,   GGML_TYPE_Q5_K,
                            GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS};

TEST(MatMulRows, MatchesOracleForEveryType) {
  const int n = 70, k = 512;
  for (ggml_type type : kTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    const Quantized w(type, n, k);
    for (int rows : {1, 3, kMaxRows}) {
      const auto x = RandomFloats(size_t(rows) * k, 2);
      const auto want =
          reference::MatMul(x.data(), w.values.data(), rows, n, k);
      ExpectNear(Multiply(w.matrix, x, rows, true, 1), want, 1e-4f);
      // Two planes of 8 bits per activation block; plain halves elsewhere.
      const float tolerance =
          type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 ? 0.12f : 6e-3f;
      ExpectNear(Multiply(w.matrix, x, rows, false, 2), want, tolerance);
    }
  }
}

TEST(MatMulRows, RowDoesNotDependOnBatchOrThreads) {
  const int n = 333, k = 576;
  const Quantized w(GGML_TYPE_Q4_1, n, k);
  const auto x = RandomFloats(size_t(kMaxRows) * k, 3);
  for (bool exact : {false, true}) {
    const auto all = Multiply(w.matrix, x, kMaxRows, exact, 3);
    for (int r = 0; r < kMaxRows; ++r) {
      const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
      const auto one = Multiply(w.matrix, row, 1, exact, 1);
      for (int j = 0; j < n; ++j) ASSERT_EQ(one[j], all[size_t(r) * n + j]);
    }
  }
}

TEST(MatMulRows, AddsBias) {
  const Quantized w(GGML_TYPE_F32, 40, 32);
  const auto x = RandomFloats(2 * 32, 4), bias = RandomFloats(40, 5);
  const auto plain = Multiply(w.matrix, x, 2, true, 1);
  const auto biased = Multiply(w.matrix, x, 2, true, 1, bias.data());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(biased[i], plain[i] + bias[i % 40]);
  }
}

}  // namespace
}  // namespace pyramidkv
