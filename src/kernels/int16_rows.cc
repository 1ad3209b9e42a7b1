#include "kernels/int16_rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/integer_unit.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int16_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
// Rows are multiples of 8.
using D = hn::CappedTag<float, 8>;
using V = hn::Vec<D>;

// Up to it a row is taken for zero.
constexpr float kTiny = 1e-30f;

// Compared as integers, so that a NaN is the largest of all.
float LargestMagnitude(const float* x, size_t n) {
  const D d;
  const hn::RebindToSigned<D> bits;
  auto most = hn::Zero(bits);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    most = hn::Max(most, hn::BitCast(bits, hn::Abs(hn::LoadU(d, x + i))));
  }
  return hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(bits, most)));
}

// The length of x * factor.
float Length(const float* x, size_t n, float factor) {
  const D d;
  const V f = hn::Set(d, factor);
  V sum = hn::Zero(d);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const V y = hn::Mul(hn::LoadU(d, x + i), f);
    sum = hn::MulAdd(y, y, sum);
  }
  return std::sqrt(hn::GetLane(hn::SumOfLanes(d, sum)));
}

void Round(const float* x, size_t n, float factor, int16_t* to) {
  const D d;
  const hn::Rebind<int16_t, D> d16;
  const V f = hn::Set(d, factor);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), f));
    hn::StoreU(hn::DemoteTo(d16, whole), d16, to + i);
  }
}

// The scale of a row of zeros: 0, or NaN where the values are not finite.
float ScaleOfZeros(const IntegerUnit& unit) {
  return unit.keep != 0 ? 0.0f : unit.unit;
}

float ToInt16RowT(const float* x, size_t n, int16_t* to) {
  const float most = LargestMagnitude(x, n);
  const IntegerUnit one = IntegerUnitFor(most, 1.0f, kTiny);
  if (one.factor == 0) {
    std::fill_n(to, n, int16_t{0});
    return ScaleOfZeros(one);
  }
  const float largest =
      std::min(kInt16Max, kInt16RowLength / Length(x, n, one.factor));
  Round(x, n, largest * one.factor, to);
  return most / largest;
}

float StoreInt16ValuesT(const float* v, size_t head_dim, int16_t* half) {
  const IntegerUnit unit =
      IntegerUnitFor(LargestMagnitude(v, head_dim), kInt16Max, kTiny);
  if (unit.factor == 0) {
    for (size_t c = 0; c < head_dim; ++c) half[2 * c] = 0;
    return ScaleOfZeros(unit);
  }
  constexpr size_t kChannels = 64;
  HWY_ALIGN int16_t rounded[kChannels];
  for (size_t first = 0; first < head_dim; first += kChannels) {
    const size_t channels = std::min(kChannels, head_dim - first);
    Round(v + first, channels, unit.factor, rounded);
    for (size_t c = 0; c < channels; ++c) half[2 * (first + c)] = rounded[c];
  }
  return unit.unit;
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(ToInt16RowT);
HWY_EXPORT(StoreInt16ValuesT);

}  // namespace

float ToInt16Row(const float* x, size_t n, int16_t* to) {
  return HWY_DYNAMIC_DISPATCH(ToInt16RowT)(x, n, to);
}

float StoreInt16Values(const float* v, int head_dim, size_t entry,
                       int16_t* pairs) {
  int16_t* const half = pairs + entry / 2 * 2 * head_dim + entry % 2;
  return HWY_DYNAMIC_DISPATCH(StoreInt16ValuesT)(v, head_dim, half);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
