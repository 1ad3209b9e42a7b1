#include "kernels/matmul_rows.h"

#include <cmath>

#include "kernels/scalar_reference.h"
#include "kernels/testing/quantized_matrix.h"

namespace pyramidkv {
namespace {

std::vector<float> Multiply(const WeightMatrix& w, const std::vector<float>& x,
                            int rows, bool exact, int threads,
                            const float* bias = nullptr) {
  ThreadPool pool(threads);
  RowsInput input;
  input.Set(x.data(), rows, w.cols, exact);
  input.PrepareFor(w, &pool);
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
    const QuantizedMatrix w(type, n, k);
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

void CheckRepackedWeights() {
  const int n = 170, k = 512;
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    for (int rows : {1, 3, kMaxRows}) {
      const auto x = RandomFloats(size_t(rows) * k, 2);
      const auto bias = RandomFloats(n, 5);
      auto want = reference::MatMul(x.data(), w.values.data(), rows, n, k);
      for (size_t i = 0; i < want.size(); ++i) want[i] += bias[i % n];
      for (bool exact : {false, true}) {
        ExpectNear(Multiply(w.matrix, x, rows, exact, 2, bias.data()), want,
                   1e-3f);
      }
    }
  }
}

TEST(MatMulRows, RepackedWeights) {
  if (!HasInt8Products()) GTEST_SKIP() << "neither AVX-512 VNNI nor AVX2";
  ForAllCpus([] {
    if (HasInt8Products()) CheckRepackedWeights();
  });
}

void RowIsAlone(const WeightMatrix& w) {
  const int n = w.rows, k = w.cols;
  const auto x = RandomFloats(size_t(kMaxRows) * k, 3);
  for (bool exact : {false, true}) {
    const auto all = Multiply(w, x, kMaxRows, exact, 3);
    for (int r = 0; r < kMaxRows; ++r) {
      const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
      const auto one = Multiply(w, row, 1, exact, 1);
      for (int j = 0; j < n; ++j) ASSERT_EQ(one[j], all[size_t(r) * n + j]);
    }
  }
}

TEST(MatMulRows, RowDoesNotDependOnBatchOrThreads) {
  QuantizedMatrix w(GGML_TYPE_Q4_1, 333, 576);
  RowIsAlone(w.matrix);
  if (!HasInt8Products()) return;
  w.Tile();
  RowIsAlone(w.matrix);
}

TEST(MatMulRows, AddsBias) {
  const QuantizedMatrix w(GGML_TYPE_F32, 40, 32);
  const auto x = RandomFloats(2 * 32, 4), bias = RandomFloats(40, 5);
  const auto plain = Multiply(w.matrix, x, 2, true, 1);
  const auto biased = Multiply(w.matrix, x, 2, true, 1, bias.data());
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(biased[i], plain[i] + bias[i % 40]);
  }
}

}  // namespace
}  // namespace pyramidkv
