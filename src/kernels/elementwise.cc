#include "kernels/elementwise.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Four accumulators hide the latency of the multiply-add.
float DotF32T(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b,
              size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes),
                    s1);
    s2 = hn::MulAdd(hn::LoadU(d, a + i + 2 * lanes),
                    hn::LoadU(d, b + i + 2 * lanes), s2);
    s3 = hn::MulAdd(hn::LoadU(d, a + i + 3 * lanes),
                    hn::LoadU(d, b + i + 3 * lanes), s3);
  }
  for (; i + lanes <= n; i += lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
  }
  float sum =
      hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void RmsNormT(const float* x, const float* HWY_RESTRICT weight, size_t n,
              float epsilon, float* y) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const float scale =
      1.0f / std::sqrt(DotF32T(x, x, n) / static_cast<float>(n) + epsilon);
  const auto s = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(
        hn::Mul(hn::Mul(hn::LoadU(d, x + i), s), hn::LoadU(d, weight + i)), d,
        y + i);
  }
  for (; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V Silu(D d, V g) {
  // exp(-g) up to e^88; beyond that the quotient is 0 anyway.
  const V e = FastExp(d, hn::Min(hn::Neg(g), hn::Set(d, 87.0f)));
  return hn::Div(g, hn::Add(hn::Set(d, 1.0f), e));
}

// 0.5 g (1 + tanh(u)) is g / (1 + exp(-2 u)), u = sqrt(2 / pi) (g + c g^3).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Gelu(D d, V g) {
  const V two_root = hn::Set(d, 1.59576912f);  // 2 sqrt(2 / pi)
  const V c = hn::Set(d, 0.044715f);
  const V factor =
      hn::Mul(two_root, hn::MulAdd(hn::Mul(c, g), g, hn::Set(d, 1.0f)));
  const V e =
      FastExp(d, hn::Min(hn::Neg(hn::Mul(factor, g)), hn::Set(d, 87.0f)));
  return hn::Div(g, hn::Add(hn::Set(d, 1.0f), e));
}

// x[i] = f(d, x[i]); a tail goes through the same code, one by one.
template <class F>
HWY_INLINE void Transform(size_t n, float* x, const F& f) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> d1;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(f(d, hn::LoadU(d, x + i), i), d, x + i);
  }
  for (; i < n; ++i) hn::StoreU(f(d1, hn::LoadU(d1, x + i), i), d1, x + i);
}

void SiluMulT(float* gate, const float* HWY_RESTRICT up, size_t n) {
  Transform(n, gate, [up](auto d, auto g, size_t i) HWY_ATTR {
    return hn::Mul(Silu(d, g), hn::LoadU(d, up + i));
  });
}

void GeluMulT(float* gate, const float* HWY_RESTRICT up, size_t n) {
  Transform(n, gate, [up](auto d, auto g, size_t i) HWY_ATTR {
    return hn::Mul(Gelu(d, g), hn::LoadU(d, up + i));
  });
}

// tanh(y) is 1 - 2 / (exp(2 y) + 1); beyond 40 it is 1 in f32.
void SoftCapT(float cap, size_t n, float* x) {
  Transform(n, x, [cap](auto d, auto v, size_t) HWY_ATTR {
    const auto limit = hn::Set(d, 80.0f);
    const auto one = hn::Set(d, 1.0f);
    const auto twice = hn::Mul(v, hn::Set(d, 2.0f / cap));
    const auto e = FastExp(d, hn::Min(hn::Max(twice, hn::Neg(limit)), limit));
    const auto share = hn::Div(hn::Set(d, 2.0f), hn::Add(e, one));
    return hn::Mul(hn::Set(d, cap), hn::Sub(one, share));
  });
}

void AddToT(const float* HWY_RESTRICT x, size_t n, float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  }
  for (; i < n; ++i) y[i] += x[i];
}

// bits + 0x7fff + lowest kept bit, then the upper half: nearest even.
void ToBf16T(const float* HWY_RESTRICT from, size_t n,
             uint16_t* HWY_RESTRICT to) {
  const hn::ScalableTag<uint32_t> du;
  const hn::Rebind<uint16_t, decltype(du)> d16;
  const size_t lanes = hn::Lanes(du);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto bits =
        hn::LoadU(du, reinterpret_cast<const uint32_t*>(from) + i);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(rounded)), d16, to + i);
  }
  for (; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, from + i, 4);
    to[i] = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {

HWY_EXPORT(DotF32T);
HWY_EXPORT(RmsNormT);
HWY_EXPORT(SiluMulT);
HWY_EXPORT(GeluMulT);
HWY_EXPORT(SoftCapT);
HWY_EXPORT(AddToT);
HWY_EXPORT(ToBf16T);

float DotF32(const float* a, const float* b, size_t n) {
  return HWY_DYNAMIC_DISPATCH(DotF32T)(a, b, n);
}
void RmsNorm(const float* x, const float* weight, size_t n, float epsilon,
             float* y) {
  HWY_DYNAMIC_DISPATCH(RmsNormT)(x, weight, n, epsilon, y);
}
void SiluMul(float* gate, const float* up, size_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulT)(gate, up, n);
}
void GeluMul(float* gate, const float* up, size_t n) {
  HWY_DYNAMIC_DISPATCH(GeluMulT)(gate, up, n);
}
void SoftCap(float cap, size_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(SoftCapT)(cap, n, x);
}
void AddTo(const float* x, size_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(AddToT)(x, n, y);
}
void ToBf16(const float* from, size_t n, uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(ToBf16T)(from, n, to);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
