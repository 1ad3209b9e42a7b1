#include "kernels/int16_rows.h"

#include <algorithm>
#include <cmath>

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

// Below it a row is taken for zero: its inverse would not be a number.
constexpr float kTiny = 1e-30f;

float LargestMagnitude(const float* x, size_t n) {
  const D d;
  V most = hn::Zero(d);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    most = hn::Max(most, hn::Abs(hn::LoadU(d, x + i)));
  }
  return hn::GetLane(hn::MaxOfLanes(d, most));
}

// The length of x * unit.
float Length(const float* x, size_t n, float unit) {
  const D d;
  const V u = hn::Set(d, unit);
  V sum = hn::Zero(d);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const V y = hn::Mul(hn::LoadU(d, x + i), u);
    sum = hn::MulAdd(y, y, sum);
  }
  return std::sqrt(hn::GetLane(hn::SumOfLanes(d, sum)));
}

void Round(const float* x, size_t n, float unit, int16_t* to) {
  const D d;
  const hn::Rebind<int16_t, D> d16;
  const V u = hn::Set(d, unit);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), u));
    hn::StoreU(hn::DemoteTo(d16, whole), d16, to + i);
  }
}

float ToInt16RowT(const float* x, size_t n, int16_t* to) {
  const float most = LargestMagnitude(x, n);
  if (most < kTiny) {
    std::fill_n(to, n, int16_t{0});
    return 0;
  }
  const float inverse = 1.0f / most;
  const float largest =
      std::min(kInt16Max, kInt16RowLength / Length(x, n, inverse));
  Round(x, n, largest * inverse, to);
  return most / largest;
}

float StoreInt16ValuesT(const float* v, size_t head_dim, int16_t* half) {
  const float most = LargestMagnitude(v, head_dim);
  const float unit = most < kTiny ? 0.0f : kInt16Max / most;
  constexpr size_t kChannels = 64;
  HWY_ALIGN int16_t rounded[kChannels];
  for (size_t first = 0; first < head_dim; first += kChannels) {
    const size_t channels = std::min(kChannels, head_dim - first);
    Round(v + first, channels, unit, rounded);
    for (size_t c = 0; c < channels; ++c) half[2 * (first + c)] = rounded[c];
  }
  return unit > 0 ? most / kInt16Max : 0.0f;
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
