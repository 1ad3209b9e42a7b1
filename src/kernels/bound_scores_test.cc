#include "kernels/bound_scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

constexpr int kBlock = 5;  // keys

TEST(BoundScores, MatchesOracleAndBoundsEveryKey) {
  ForAllTargets([] {
    for (int head_dim : {1, 4, 7, 64, 80, 128}) {
      for (int blocks : {1, 15, 16, 17, 40}) {
        const int queries = 3;
        const auto k = RandomFloats(size_t(blocks) * kBlock * head_dim, 1);
        const auto q = RandomFloats(size_t(queries) * head_dim, 2);
        std::vector<std::byte> groups((blocks + kBoundGroup - 1) / kBoundGroup *
                                      BoundGroupBytes(head_dim));
        for (int e = 0; e < blocks * kBlock; ++e) {
          const int b = e / kBlock;
          WidenBounds(
              k.data() + size_t(e) * head_dim, head_dim, b % kBoundGroup,
              e % kBlock == 0,
              groups.data() + b / kBoundGroup * BoundGroupBytes(head_dim));
        }
        std::vector<float> best(size_t(queries) * blocks);
        BoundScores({head_dim, groups.data(), blocks, q.data(), queries},
                    best.data());
        for (int r = 0; r < queries; ++r) {
          for (int b = 0; b < blocks; ++b) {
            double bound = 0, size = 0, exact = -1e30;
            const float* key = k.data() + size_t(b) * kBlock * head_dim;
            for (int c = 0; c < head_dim; ++c) {
              double most = -1e30;
              for (int e = 0; e < kBlock; ++e) {
                const double product =
                    double{q[r * head_dim + c]} * key[e * head_dim + c];
                most = std::max(most, product);
              }
              bound += most;
              size += std::fabs(most);
            }
            for (int e = 0; e < kBlock; ++e) {
              double dot = 0;
              for (int c = 0; c < head_dim; ++c) {
                dot += double{q[r * head_dim + c]} * key[e * head_dim + c];
              }
              exact = std::max(exact, dot);
            }
            const float got = best[size_t(r) * blocks + b];
            ASSERT_GE(got, exact - 1e-5 * (size + 1));
            ASSERT_GE(got, bound - 1e-5 * (size + 1));
            ASSERT_LE(got, bound + 0x1p-10 * (size + 1));
          }
        }
      }
    }
  });
}

// Whichever way halves round, a bound stays one.
TEST(BoundScores, RoundsOutwards) {
  for (float value : {1.0001f, -1.0001f, 1e-9f, -1e-9f, 0.0f, 70000.0f, 3.0f}) {
    std::vector<std::byte> group(BoundGroupBytes(1));
    WidenBounds(&value, 1, 3, true, group.data());
    for (float q : {1.0f, -1.0f}) {
      std::vector<float> best(4);
      BoundScores({1, group.data(), 4, &q, 1}, best.data());
      EXPECT_GE(best[3], q * std::min(value, 65504.0f));
      EXPECT_NEAR(best[3], q * std::min(value, 65504.0f),
                  std::fabs(value) * 0x1p-10f + 1e-7f);
    }
  }
}

}  // namespace
}  // namespace pyramidkv
