#include "kernels/column_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/kv_codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/column_scores.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kColumnBlock>;
using V = hn::Vec<D>;

constexpr int kMaxHeads = 4;  // queries that share what is read

// kHeads rows of q, `columns` apart, over one block; scores `stride` apart.
template <int kHeads>
HWY_INLINE void ScoreBlock(const std::byte* block, int columns, const float* q,
                           size_t stride, float* scores) {
  const D d;
  const hn::Rebind<int8_t, D> d8;
  const hn::Rebind<int32_t, D> d32;
  const hn::Rebind<hwy::float16_t, D> d16;
  const size_t lanes = hn::Lanes(d);
  const auto* scales = reinterpret_cast<const hwy::float16_t*>(block);
  const auto* values =
      reinterpret_cast<const int8_t*>(block + kColumnBlock * sizeof(uint16_t));
  for (size_t x = 0; x < kColumnBlock; x += lanes) {
    V sum[kHeads];
    for (int h = 0; h < kHeads; ++h) sum[h] = hn::Zero(d);
    for (int c = 0; c < columns; ++c) {
      const V value = hn::ConvertTo(
          d, hn::PromoteTo(d32, hn::LoadU(d8, values + c * kColumnBlock + x)));
      for (int h = 0; h < kHeads; ++h) {
        sum[h] =
            hn::MulAdd(value, hn::Set(d, q[size_t(h) * columns + c]), sum[h]);
      }
    }
    const V scale = hn::PromoteTo(d, hn::LoadU(d16, scales + x));
    for (int h = 0; h < kHeads; ++h) {
      hn::StoreU(hn::Mul(sum[h], scale), d, scores + h * stride + x);
    }
  }
}

template <int kHeads>
void ScoreBlocks(const ColumnScoresArgs& a, int first, float* scores) {
  const size_t stride = size_t(a.count) * kColumnBlock;
  for (int b = 0; b < a.count; ++b) {
    ScoreBlock<kHeads>(a.blocks + b * ColumnBlockBytes(a.columns), a.columns,
                       a.q + size_t(first) * a.columns, stride,
                       scores + first * stride + size_t(b) * kColumnBlock);
  }
}

void ColumnScoresT(const ColumnScoresArgs& a, float* scores) {
  for (int first = 0; first < a.queries; first += kMaxHeads) {
    switch (a.queries - first) {
      case 1:
        ScoreBlocks<1>(a, first, scores);
        break;
      case 2:
        ScoreBlocks<2>(a, first, scores);
        break;
      case 3:
        ScoreBlocks<3>(a, first, scores);
        break;
      default:
        ScoreBlocks<kMaxHeads>(a, first, scores);
    }
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

constexpr float kLargestHalf = 65504.0f;
constexpr float kSteps = 127.0f;

HWY_EXPORT(ColumnScoresT);

}  // namespace

void StoreColumns(const float* x, int columns, int row, std::byte* block) {
  DCHECK(row >= 0 && row < kColumnBlock);
  float most = 0;
  for (int c = 0; c < columns; ++c) {
    if (!std::isnan(x[c])) most = std::max(most, std::fabs(x[c]));
  }
  const uint16_t half = F16FromF32(std::min(most / kSteps, kLargestHalf));
  std::memcpy(block + row * sizeof(half), &half, sizeof(half));
  const float scale = F32FromF16(half);
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  std::byte* const values = block + kColumnBlock * sizeof(half);
  for (int c = 0; c < columns; ++c) {
    const float value = std::clamp(x[c] * inverse, -kSteps, kSteps);
    const auto code =
        std::isnan(value) ? int8_t{0} : static_cast<int8_t>(std::lround(value));
    values[c * kColumnBlock + row] = static_cast<std::byte>(code);
  }
}

void ColumnScores(const ColumnScoresArgs& args, float* scores) {
  HWY_DYNAMIC_DISPATCH(ColumnScoresT)(args, scores);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
