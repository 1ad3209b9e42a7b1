#include "kernels/matmul_prompt.h"

#include <omp.h>

#include <cmath>

#include "kernels/scalar_reference.h"
#include "kernels/testing/all_targets.h"

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
  matmul->SetInput(x.data(), w.cols, 0);
  matmul->Multiply(packed, y.data(), 0);
  return y;
}

TEST(MatMulPrompt, MatchesOracle) {
  omp_set_num_threads(1);
  for (bool bf16 : {false, true}) {
    PromptMatMul matmul(1, bf16);
    for (const auto& [n, k] :
         {std::pair{1, 8}, {48, 32}, {513, 64}, {1100, 100}, {576, 1536}}) {
      const auto x = RandomFloats(size_t(kPromptTile) * k, 1);
      const auto weights = RandomFloats(size_t(n) * k, 2, 0.5f);
      const auto got = Multiply(&matmul, F32Matrix(weights, n, k), x);
      const auto want =
          reference::MatMul(x.data(), weights.data(), kPromptTile, n, k);
      ExpectNear(got, want, (bf16 ? 1e-2f : 1e-5f) * std::sqrt(float(k)));
    }
  }
}

// What makes slicing and batching harmless: a row's bits do not depend on its
// place in the tile or on its neighbours.
TEST(MatMulPrompt, RowDoesNotDependOnItsTile) {
  omp_set_num_threads(1);
  for (bool bf16 : {false, true}) {
    PromptMatMul matmul(1, bf16);
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
