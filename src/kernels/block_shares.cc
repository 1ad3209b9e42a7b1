#include "kernels/block_shares.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/block_shares.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kPoolsOfBlock>;
using V = hn::Vec<D>;

// logits[0 ... kPoolsOfBlock) of one query over one block; returns their
// maximum.
HWY_INLINE V LogitsOfBlock(const float* q, const float* pooled, int head_dim,
                           float scale, float* logits) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  V most = hn::Set(d, std::numeric_limits<float>::lowest());
  for (int x = 0; x < kPoolsOfBlock; x += lanes) {
    V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
    const float* key = pooled + x;
    for (int i = 0; i < head_dim; i += 2, key += 2 * kPoolsOfBlock) {
      sum0 = hn::MulAdd(hn::LoadU(d, key), hn::Set(d, q[i]), sum0);
      sum1 = hn::MulAdd(hn::LoadU(d, key + kPoolsOfBlock), hn::Set(d, q[i + 1]),
                        sum1);
    }
    const V logit = hn::Mul(hn::Add(sum0, sum1), hn::Set(d, scale));
    hn::StoreU(logit, d, logits + x);
    most = hn::Max(most, logit);
  }
  return most;
}

void BlockSharesT(const BlockSharesArgs& a, float* logits) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int r = 0; r < a.queries; ++r) {
    V most = hn::Set(d, std::numeric_limits<float>::lowest());
    for (int b = 0; b < a.blocks; ++b) {
      const V of_block =
          LogitsOfBlock(a.q + size_t(r) * a.head_dim,
                        a.pooled + size_t(b) * a.head_dim * kPoolsOfBlock,
                        a.head_dim, a.scale, logits + b * kPoolsOfBlock);
      most = hn::Max(most, of_block);
    }
    const V max = hn::MaxOfLanes(d, most);
    float* share = a.share + size_t(r) * a.blocks;
    float total = 0;
    for (int b = 0; b < a.blocks; ++b) {
      V sum = hn::Zero(d);
      for (int x = 0; x < kPoolsOfBlock; x += lanes) {
        const V logit = hn::LoadU(d, logits + b * kPoolsOfBlock + x);
        sum = hn::Add(sum, FastExp(d, hn::Sub(logit, max)));
      }
      share[b] = hn::GetLane(hn::SumOfLanes(d, sum));
      total += share[b];
    }
    for (int b = 0; b < a.blocks; ++b) share[b] /= total;
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {

HWY_EXPORT(BlockSharesT);

void PoolBlock(const float* k, int block, int head_dim, float* pooled) {
  float* to = pooled + size_t(block) * head_dim * kPoolsOfBlock;
  for (int p = 0; p < kPoolsOfBlock; ++p) {
    const float* key =
        k + (size_t(block) * kKeyBlock + size_t(p) * kPooledKeys) * head_dim;
    for (int i = 0; i < head_dim; ++i) {
      float sum = 0;
      for (int j = 0; j < kPooledKeys; ++j) sum += key[j * head_dim + i];
      to[i * kPoolsOfBlock + p] = sum / kPooledKeys;
    }
  }
}

void BlockShares(const BlockSharesArgs& args, AlignedBuffer<float>* scratch) {
  scratch->Resize(size_t(args.blocks) * kPoolsOfBlock);
  HWY_DYNAMIC_DISPATCH(BlockSharesT)(args, scratch->data());
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
