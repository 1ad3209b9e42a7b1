// Pieces that the kernels in AVX-512 BF16 intrinsics share. Highway 1.0 has no
// native bf16 dot product, so these stand beside it.
//
// Include it after `#pragma GCC target(...)`, and nothing else: the target
// is switched on after all other includes, so that no inline function of a
// header is compiled with it and then merged into code for older CPUs. All
// here has internal linkage.

#ifndef PYRAMIDKV_KERNELS_AVX512_BF16_INL_H_
#define PYRAMIDKV_KERNELS_AVX512_BF16_INL_H_

#include <immintrin.h>

namespace pyramidkv {
namespace {

inline constexpr int kLanes = 16;

// Not std::min: see above.
inline int Min(int a, int b) { return a < b ? a : b; }
inline int Max(int a, int b) { return a > b ? a : b; }

inline __m512 DotPairs(__m512 acc, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

// exp for x below 88 in the lanes of `mask`, else 0; relative error below
// 3e-6; exactly 0 below -87.
inline __m512 Exp(__mmask16 mask, __m512 x) {
  const __mmask16 keep =
      _mm512_mask_cmp_ps_mask(mask, x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
  const __m512 y = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_roundscale_ps(y, 0);
  const __m512 f = _mm512_sub_ps(y, n);
  __m512 p = _mm512_set1_ps(1.3333558e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(keep, p, n);
}

inline __m512 Exp(__m512 x) { return Exp(0xffff, x); }

}  // namespace
}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_AVX512_BF16_INL_H_
