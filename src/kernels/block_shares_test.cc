#include "kernels/block_shares.h"

#include <cmath>
#include <vector>

#include "kernels/testing/all_targets.h"

namespace pyramidkv {
namespace {

// The definition, in double precision.
std::vector<float> Oracle(const BlockSharesArgs& a,
                          const std::vector<float>& k) {
  std::vector<float> shares;
  for (int r = 0; r < a.queries; ++r) {
    std::vector<double> of_block(a.blocks, 0.0);
    double total = 0;
    for (int pool = 0; pool < a.blocks * kPoolsOfBlock; ++pool) {
      double logit = 0;
      for (int i = 0; i < a.head_dim; ++i) {
        double mean = 0;
        for (int j = 0; j < kPooledKeys; ++j) {
          mean += k[size_t(pool * kPooledKeys + j) * a.head_dim + i];
        }
        logit += a.scale * a.q[r * a.head_dim + i] * mean / kPooledKeys;
      }
      of_block[pool / kPoolsOfBlock] += std::exp(logit);
      total += std::exp(logit);
    }
    for (double s : of_block) shares.push_back(static_cast<float>(s / total));
  }
  return shares;
}

TEST(BlockShares, MatchesOracle) {
  ForAllTargets([] {
    for (int head_dim : {8, 64, 80}) {
      for (int blocks : {1, 2, 7}) {
        const auto k =
            RandomFloats(size_t(blocks) * kKeyBlock * head_dim, 1, 2.0f);
        const auto q = RandomFloats(size_t(5) * head_dim, 2, 2.0f);
        std::vector<float> pooled(size_t(blocks) * head_dim * kPoolsOfBlock);
        for (int b = 0; b < blocks; ++b) {
          PoolBlock(k.data(), b, head_dim, pooled.data());
        }
        std::vector<float> share(size_t(5) * blocks);
        const BlockSharesArgs args{q.data(),      5,      head_dim,    0.2f,
                                   pooled.data(), blocks, share.data()};
        AlignedBuffer<float> scratch;
        BlockShares(args, &scratch);
        ExpectNear(share, Oracle(args, k), 1e-5f);
      }
    }
  });
}

}  // namespace
}  // namespace pyramidkv
