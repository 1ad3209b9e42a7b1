#include "kernels/matmul_int8.h"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_reference.h"
#include "kernels/testing/quantized_matrix.h"
#include "kernels/weight_tiles.h"

namespace pyramidkv {
namespace {

std::vector<float> Multiply(Int8Form form, const QuantizedMatrix& w,
                            const std::vector<float>& x, int rows, bool fine) {
  const WeightMatrix& m = w.matrix;
  Int8Rows input(form);
  input.Set(x.data(), rows, m.cols, fine ? rows : 0);
  std::vector<float> y(size_t(rows) * m.rows, 1e30f);
  MultiplyTiles(TileFormatOf(m.type), m.tiles, m.rows, input, 0,
                GroupsOf(m.rows), y.data(), m.rows);
  return y;
}

// x as the kernel rounds it: whole steps of the largest value of each block.
std::vector<float> Rounded(std::vector<float> x, bool fine) {
  const float most_steps = fine ? 127.0f * 256 : 127.0f;
  for (size_t b = 0; b < x.size(); b += kBlockCols) {
    float most = 0;
    for (int i = 0; i < kBlockCols; ++i) {
      most = std::max(most, std::abs(x[b + i]));
    }
    for (int i = 0; i < kBlockCols && most > 0; ++i) {
      x[b + i] =
          std::nearbyint(x[b + i] * (most_steps / most)) * (most / most_steps);
    }
  }
  return x;
}

class MatMulInt8 : public testing::TestWithParam<Int8Form> {
 protected:
  void SetUp() override {
    if (!Covers(Cpu(), FormNeeds(GetParam())))
      GTEST_SKIP() << "not on this CPU";
  }
  std::vector<float> Multiply(const QuantizedMatrix& w,
                              const std::vector<float>& x, int rows,
                              bool fine) const {
    return pyramidkv::Multiply(GetParam(), w, x, rows, fine);
  }
};

INSTANTIATE_TEST_SUITE_P(Forms, MatMulInt8, testing::ValuesIn(kInt8Forms),
                         [](const auto& form) { return FormName(form.param); });

TEST_P(MatMulInt8, MatchesOracleForEveryType) {
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    for (const auto& [n, k] : {std::pair{1, 256}, {16, 512}, {70, 768}}) {
      QuantizedMatrix w(type, n, k);
      w.Tile();
      for (int rows : {1, 2, 3, 4, 5, 8, 11, 12, 13, 16, 48}) {
        for (bool fine : {false, true}) {
          if (fine && rows > 16) continue;
          const auto x = RandomFloats(size_t(rows) * k, 2);
          const auto rounded = Rounded(x, fine);
          ExpectNear(
              Multiply(w, x, rows, fine),
              reference::MatMul(rounded.data(), w.values.data(), rows, n, k),
              1e-4f);
        }
      }
    }
  }
}

// A one in column c gives that column's weights: repacking loses nothing.
TEST_P(MatMulInt8, EveryWeightComesThrough) {
  const int n = 37, k = 512;
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    for (int c = 0; c < k; ++c) {
      std::vector<float> x(k);
      x[c] = 1;
      const auto y = Multiply(w, x, 1, /*fine=*/true);
      for (int j = 0; j < n; ++j) {
        const float want = w.values[size_t(j) * k + c];
        ASSERT_NEAR(y[j], want, 1e-5f) << "row " << j << " column " << c;
      }
    }
  }
}

TEST_P(MatMulInt8, RowDoesNotDependOnItsBatch) {
  const int n = 333, k = 576, most = 48;
  QuantizedMatrix w(GGML_TYPE_Q4_1, n, k);
  w.Tile();
  const auto x = RandomFloats(size_t(most) * k, 3);
  for (bool fine : {false, true}) {
    for (int rows : {2, 7, 12, fine ? 16 : most}) {
      const auto all = Multiply(w, x, rows, fine);
      for (int r = 0; r < rows; ++r) {
        const std::vector<float> row(x.begin() + r * k,
                                     x.begin() + (r + 1) * k);
        const auto one = Multiply(w, row, 1, fine);
        for (int j = 0; j < n; ++j) ASSERT_EQ(one[j], all[size_t(r) * n + j]);
      }
    }
  }
}

TEST_P(MatMulInt8, SomeRowsAreFine) {
  const int n = 40, k = 256, rows = 48;
  QuantizedMatrix w(GGML_TYPE_Q8_0, n, k);
  w.Tile();
  const auto x = RandomFloats(size_t(rows) * k, 6);
  const auto fine = Multiply(w, x, rows, true);
  const auto coarse = Multiply(w, x, rows, false);
  for (int fine_rows : {0, 1, 9, 16, 47, 48}) {
    Int8Rows input(GetParam());
    input.Set(x.data(), rows, k, fine_rows);
    std::vector<float> y(size_t(rows) * n);
    MultiplyTiles(TileFormatOf(GGML_TYPE_Q8_0), w.matrix.tiles, n, input, 0,
                  GroupsOf(n), y.data(), n);
    for (int i = 0; i < rows * n; ++i) {
      ASSERT_EQ(y[i], i < fine_rows * n ? fine[i] : coarse[i]);
    }
  }
}

// The ends of every range: sums must not overflow, zeros stay zeros.
TEST_P(MatMulInt8, ExtremeValues) {
  const int n = 20, k = 2048;
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    for (bool fine : {false, true}) {
      const std::vector<float> none(k, 0.0f);
      for (float y : Multiply(w, none, 1, fine)) EXPECT_EQ(y, 0.0f);
      std::vector<float> large(k);
      for (int i = 0; i < k; ++i) {
        large[i] = w.values[i] > 0 ? 3e4f : -3e4f;  // aligned with row 0
      }
      const auto want =
          reference::MatMul(large.data(), w.values.data(), 1, n, k);
      const auto got = Multiply(w, large, 1, fine);
      for (int j = 0; j < n; ++j) {
        EXPECT_NEAR(got[j], want[j], 1e-5f * std::abs(want[0]));
      }
    }
  }
}

// An activation that is not finite makes all results of its row NaN, and
// changes no bit of other rows.
TEST_P(MatMulInt8, ActivationsThatAreNotFinite) {
  const int n = 20, k = 256, rows = 3;
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    const auto x = RandomFloats(size_t{rows} * k, 7);
    for (bool fine : {false, true}) {
      const auto want = Multiply(w, x, rows, fine);
      for (float bad : {HUGE_VALF, -HUGE_VALF, std::nanf(""), -std::nanf("")}) {
        for (int column : {0, 8, 16, 31, 100, 255}) {
          auto worse = x;
          worse[k + column] = bad;
          const auto got = Multiply(w, worse, rows, fine);
          for (int i = 0; i < rows * n; ++i) {
            if (i / n == 1) {
              ASSERT_TRUE(std::isnan(got[i])) << bad << " at " << column;
            } else {
              ASSERT_EQ(got[i], want[i]);
            }
          }
        }
      }
    }
  }
}

// Blocks as large as floats get are as exact as others; those whose inverse
// is not a number are zeros.
TEST_P(MatMulInt8, LargeAndTinyActivations) {
  const int n = 20, k = 256;
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    const auto x = RandomFloats(k, 8, 0.1f);
    for (bool fine : {false, true}) {
      const auto want = Multiply(w, x, 1, fine);
      for (float factor : {0x1p122f, 0x1p-60f}) {
        auto scaled = x;
        for (float& value : scaled) value *= factor;
        const auto got = Multiply(w, scaled, 1, fine);
        for (int j = 0; j < n; ++j) {
          ASSERT_NEAR(got[j] / factor, want[j], 1e-4f);
        }
      }
      const std::vector<float> tiny(k, 1e-40f);
      for (float y : Multiply(w, tiny, 1, fine)) ASSERT_NEAR(y, 0.0f, 1e-37f);
    }
  }
}

TEST_P(MatMulInt8, PartsOfTheOutputs) {
  QuantizedMatrix w(GGML_TYPE_Q6_K, 100, 256);
  w.Tile();
  const auto x = RandomFloats(3 * 256, 4);
  const auto all = Multiply(w, x, 3, true);
  Int8Rows input(GetParam());
  input.Set(x.data(), 3, 256, 3);
  std::vector<float> y(3 * 100, -1.0f);
  MultiplyTiles(TileFormatOf(w.matrix.type), w.matrix.tiles, 100, input, 2, 3,
                y.data(), 100);
  for (int i = 0; i < 300; ++i) {
    const bool computed = i % 100 >= 32 && i % 100 < 80;
    EXPECT_EQ(y[i], computed ? all[i] : -1.0f);
  }
}

TEST(MatMulInt8Forms, AgreeToTheBit) {
  for (Int8Form form : kInt8Forms) {
    if (Covers(Cpu(), FormNeeds(form))) continue;
    GTEST_SKIP() << "no " << FormName(form) << " on this CPU";
  }
  const int n = 50, k = 512, rows = 16;
  const auto x = RandomFloats(size_t(rows) * k, 5);
  for (ggml_type type : kTiledTypes) {
    SCOPED_TRACE(ggml_type_name(type));
    QuantizedMatrix w(type, n, k);
    w.Tile();
    for (bool fine : {false, true}) {
      EXPECT_EQ(Multiply(Int8Form::kVnni, w, x, rows, fine),
                Multiply(Int8Form::kAvx2, w, x, rows, fine));
    }
  }
}

TEST(WeightTiles, AsManyBitsAsTheFile) {
  for (ggml_type type : kTiledTypes) {
    const size_t file = ggml_row_size(type, 2048) * kGroupRows;
    EXPECT_EQ(TileFormatOf(type).group_bytes(2048),
              file + (type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K
                          // 6-bit scales as bytes
                          ? size_t{2048 / 256 * kGroupRows * 4}
                          : 0))
        << ggml_type_name(type);
  }
  EXPECT_EQ(TileFormatOf(GGML_TYPE_F16).bits, 0);
}

}  // namespace
}  // namespace pyramidkv
