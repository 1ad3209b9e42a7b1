// exp() of f32 vectors. Per-target include guard, as Highway asks for.

#if defined(PYRAMIDKV_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PYRAMIDKV_KERNELS_EXP_INL_H_
#undef PYRAMIDKV_KERNELS_EXP_INL_H_
#else
#define PYRAMIDKV_KERNELS_EXP_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 2^f for f in [-1/2, 1/2], relative error below 3e-7: a polynomial of degree
// 6.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SmallPower(D d, V f) {
  V p = hn::Set(d, 1.5403530e-4f);
  p = hn::MulAdd(p, f, hn::Set(d, 1.3333558e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 9.6181291e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.5504109e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022651e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.9314718e-1f));
  return hn::MulAdd(p, f, hn::Set(d, 1.0f));
}

// exp(x) for x <= 88, relative error below 3e-7; exactly 0 below -87 (and for
// minus infinity), so that a masked entry adds nothing at all.
// 2^n * 2^f with n = round(x log2 e).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastExp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto keep = hn::Ge(x, hn::Set(d, -87.0f));
  const V clamped = hn::Max(x, hn::Set(d, -87.0f));
  const V log2e = hn::Set(d, 1.44269502f);
  const auto n = hn::NearestInt(hn::Mul(clamped, log2e));
  const V f = hn::MulAdd(clamped, hn::Set(d, 1.92596299e-8f),
                         hn::MulSub(clamped, log2e, hn::ConvertTo(d, n)));
  const V p = SmallPower(d, f);
  const V two_n =
      hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
  return hn::IfThenElseZero(keep, hn::Mul(p, two_n));
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
