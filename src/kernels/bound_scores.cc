#include "kernels/bound_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/kv_codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bound_scores.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kBoundGroup>;
using V = hn::Vec<D>;

constexpr int kChains = 4;  // of multiply-adds at once

HWY_INLINE V BoundAt(const hwy::float16_t* bounds, float q, size_t x, V sum) {
  const D d;
  const hn::Rebind<hwy::float16_t, D> d16;
  const hwy::float16_t* side = bounds + (q < 0 ? 0 : kBoundGroup) + x;
  return hn::MulAdd(hn::Set(d, q), hn::PromoteTo(d, hn::LoadU(d16, side)), sum);
}

void BoundScoresT(const BoundScoresArgs& a, float* best) {
  const D d;
  constexpr size_t kRow = size_t(2) * kBoundGroup;
  for (int g = 0; g < a.blocks; g += kBoundGroup) {
    const auto* group = reinterpret_cast<const hwy::float16_t*>(
        a.groups + g / kBoundGroup * BoundGroupBytes(a.head_dim));
    const int count = std::min(kBoundGroup, a.blocks - g);
    for (int r = 0; r < a.queries; ++r) {
      const float* q = a.q + size_t(r) * a.head_dim;
      float of_group[kBoundGroup];
      for (size_t x = 0; x < kBoundGroup; x += hn::Lanes(d)) {
        V sum[kChains];
        for (V& s : sum) s = hn::Zero(d);
        int c = 0;
        for (; c + kChains <= a.head_dim; c += kChains) {
          for (int i = 0; i < kChains; ++i) {
            sum[i] = BoundAt(group + (c + i) * kRow, q[c + i], x, sum[i]);
          }
        }
        for (; c < a.head_dim; ++c) {
          sum[0] = BoundAt(group + c * kRow, q[c], x, sum[0]);
        }
        hn::StoreU(hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])), d,
                   of_group + x);
      }
      std::copy_n(of_group, count, best + size_t(r) * a.blocks + g);
    }
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;

HWY_EXPORT(BoundScoresT);

// The largest half that is not above `value`.
uint16_t HalfBelow(float value) {
  const uint16_t half = F16FromF32(value);
  if (!(F32FromF16(half) > value)) return half;
  if (half == 0) return 0x8001;
  return half < 0x8000 ? half - 1 : half + 1;
}

void WidenTo(float value, bool first, bool up, std::byte* at) {
  // The least half that is not below, from the other side.
  const uint16_t sign = up ? 0x8000 : 0;
  const auto rounded =
      static_cast<uint16_t>(HalfBelow(up ? -value : value) ^ sign);
  uint16_t old;
  std::memcpy(&old, at, sizeof(old));
  const float have = F32FromF16(old), want = F32FromF16(rounded);
  if (first || (up ? want > have : want < have)) {
    std::memcpy(at, &rounded, sizeof(rounded));
  }
}

}  // namespace

void WidenBounds(const float* k, int head_dim, int block, bool first,
                 std::byte* group) {
  DCHECK(block >= 0 && block < kBoundGroup);
  std::byte* at = group + block * sizeof(uint16_t);
  constexpr size_t kSide = kBoundGroup * sizeof(uint16_t);
  for (int c = 0; c < head_dim; ++c, at += 2 * kSide) {
    const float value = std::clamp(k[c], -kLargestHalf, kLargestHalf);
    WidenTo(value, first, /*up=*/false, at);
    WidenTo(value, first, /*up=*/true, at + kSide);
  }
}

void BoundScores(const BoundScoresArgs& args, float* best) {
  HWY_DYNAMIC_DISPATCH(BoundScoresT)(args, best);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
