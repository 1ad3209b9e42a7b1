#include "policy/gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <random>
#include <vector>

namespace pyramidkv {
namespace {

std::vector<float> Random(int count, std::mt19937* rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& value : x) value = normal(*rng);
  return x;
}

double At(const GemmOperand& x, int row, int col) {
  return x.transposed ? x.data[col * x.stride + row]
                      : x.data[row * x.stride + col];
}

void ExpectLikePlainLoops(GemmArgs args, std::mt19937* rng) {
  const int padding = 3;  // rows are longer than what is read of them
  args.a.stride = (args.a.transposed ? args.m : args.k) + padding;
  args.b.stride = (args.b.transposed ? args.k : args.n) + padding;
  args.c_stride = args.n + padding;
  const auto a =
      Random((args.a.transposed ? args.k : args.m) * args.a.stride, rng);
  const auto b =
      Random((args.b.transposed ? args.n : args.k) * args.b.stride, rng);
  const auto before = Random(args.m * args.c_stride, rng);
  auto c = before;
  args.a.data = a.data();
  args.b.data = b.data();
  args.c = c.data();
  Gemm(args);
  for (int i = 0; i < args.m; ++i) {
    for (int j = 0; j < args.c_stride; ++j) {
      const int at = i * args.c_stride + j;
      if (j >= args.n) {
        EXPECT_EQ(c[at], before[at]);  // the padding is not ours
        continue;
      }
      double sum = 0, size = 0;
      for (int l = 0; l < args.k; ++l) {
        const double x = At(args.a, i, l) * At(args.b, l, j);
        sum += x;
        size += std::abs(x);
      }
      EXPECT_NEAR(c[at], args.alpha * sum + double{args.beta} * before[at],
                  1e-6 * (1 + size))
          << args.m << "x" << args.n << "x" << args.k << " at " << i << ", "
          << j;
    }
  }
}

TEST(GemmTest, LikePlainLoops) {
  std::mt19937 rng(1);
  const int sizes[][3] = {{1, 1, 1},    {1, 7, 64},   {64, 64, 64},
                          {64, 64, 60}, {33, 5, 128}, {17, 100, 3}};
  for (const auto& size : sizes) {
    for (int transposed = 0; transposed < 4; ++transposed) {
      GemmArgs args;
      args.m = size[0];
      args.n = size[1];
      args.k = size[2];
      args.a.transposed = transposed % 2 == 1;
      args.b.transposed = transposed / 2 == 1;
      ExpectLikePlainLoops(args, &rng);
      args.alpha = 0.75f;
      args.beta = 1;
      ExpectLikePlainLoops(args, &rng);
    }
  }
}

TEST(GemmTest, LeavesTheNumberOfThreads) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(3);
  const float one = 1;
  float c = 0;
  Gemm({.m = 1,
        .n = 1,
        .k = 1,
        .a = {&one, 1, false},
        .b = {&one, 1, false},
        .c = &c,
        .c_stride = 1});
  EXPECT_EQ(c, 1);
  EXPECT_EQ(omp_get_max_threads(), 3);
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace pyramidkv
