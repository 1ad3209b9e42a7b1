#include "kernels/matmul_prompt.h"

#include <omp.h>

#include <cmath>

#include "kernels/matmul_int8.h"
#include "kernels/scalar_reference.h"
#include "kernels/testing/quantized_matrix.h"

namespace pyramidkv {
namespace {

WeightMatrix F32Matrix(const std::vector<float>& values, int rows, int cols) {
  return {reinterpret_cast<const std::byte*>(values.data()), /*F32*/ 0, rows,
          cols, cols * sizeof(float)};
}

std::vector<float> Multiply(PromptMatMul* matmul, const WeightMatrix& w,
                            const std::vector<float>& x) {
  PackedMatrix packed;
  matmul->Prepare(w, &packed);
  for (int p = 0; p < packed.panel_count(); ++p) {
    matmul->Pack(w, p, 0, &packed);
  }
  std::vector<float> y(size_t(kPromptTile) * w.rows);
  matmul->SetInput(x.data(), {}, w.cols, 0);
  matmul->Multiply(packed, y.data(), 0);
  return y;
}

TEST(MatMulPrompt, MatchesOracle) {
  omp_set_num_threads(1);
  for (PromptCompute compute : {PromptCompute::kF32, PromptCompute::kBf16}) {
    PromptMatMul matmul(1, compute);
    for (const auto& [n, k] :
         {std::pair{1, 8}, {48, 32}, {513, 64}, {1100, 100}, {576, 1536}}) {
      const auto x = RandomFloats(size_t(kPromptTile) * k, 1);
      const auto weights = RandomFloats(size_t(n) * k, 2, 0.5f);
      const auto got = Multiply(&matmul, F32Matrix(weights, n, k), x);
      const auto want =
          reference::MatMul(x.data(), weights.data(), kPromptTile, n, k);
      const float tolerance = compute == PromptCompute::kBf16 ? 1e-2f : 1e-5f;
      ExpectNear(got, want, tolerance * std::sqrt(float(k)));
    }
  }
}

void CheckTiles() {
  omp_set_num_threads(1);
  PromptMatMul matmul(1, PromptCompute::kInt8);
  const int n = 100, k = 512;
  QuantizedMatrix w(GGML_TYPE_Q4_1, n, k);
  const auto x = RandomFloats(size_t(kPromptTile) * k, 1);
  const auto want =
      reference::MatMul(x.data(), w.values.data(), kPromptTile, n, k);
  // Without tiles oneDNN multiplies.
  ExpectNear(Multiply(&matmul, w.matrix, x), want, 0.1f);
  w.Tile();
  const auto got = Multiply(&matmul, w.matrix, x);
  ExpectNear(got, want, 0.1f);
  // Rows that do not count are left out, the others do not notice.
  PackedMatrix packed;
  matmul.Prepare(w.matrix, &packed);
  EXPECT_EQ(packed.panel_count(), 0);
  std::vector<float> y(size_t(kPromptTile) * n, -1.0f);
  matmul.SetInput(x.data(), {.count = 5}, k, 0);
  matmul.Multiply(packed, y.data(), 0);
  for (int i = 0; i < 5 * n; ++i) ASSERT_EQ(y[i], got[i]);
}

TEST(MatMulPrompt, Int8TakesTilesAsTheyAre) {
  if (!HasInt8Products()) GTEST_SKIP() << "neither AVX-512 VNNI nor AVX2";
  ForAllCpus([] {
    if (HasInt8Products()) CheckTiles();
  });
}

// Slicing and batching are harmless: a row's bits do not depend on its
// place in the tile or on its neighbours.
TEST(MatMulPrompt, RowDoesNotDependOnItsTile) {
  omp_set_num_threads(1);
  for (PromptCompute compute : {PromptCompute::kF32, PromptCompute::kBf16}) {
    PromptMatMul matmul(1, compute);
    const int n = 576, k = 192;
    const auto weights = RandomFloats(size_t(n) * k, 3);
    const WeightMatrix w = F32Matrix(weights, n, k);
    const auto x = RandomFloats(size_t(kPromptTile) * k, 4);
    const auto all = Multiply(&matmul, w, x);
    for (int shift : {1, 7, 16, 31}) {
      std::vector<float> other(x.size(), 0.5f);
      for (int r = 0; r + shift < kPromptTile; ++r) {
        std::copy(&x[size_t(r) * k], &x[size_t(r) * k] + k,
                  &other[size_t(r + shift) * k]);
      }
      const auto moved = Multiply(&matmul, w, other);
      for (int r = 0; r + shift < kPromptTile; ++r) {
        for (int j = 0; j < n; ++j) {
          ASSERT_EQ(all[size_t(r) * n + j], moved[size_t(r + shift) * n + j]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyramidkv
