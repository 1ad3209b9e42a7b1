// Pieces that the kernels in AVX-512 VNNI intrinsics share: 32 floats as
// whole numbers of one or two planes of 8 bits.
//
// Include it after `#pragma GCC target(...)`, as kernels/avx512_bf16-inl.h
// says, with kernels/integer_unit.h before it. All here has internal linkage.

#ifndef PYRAMIDKV_KERNELS_AVX512_INT8_INL_H_
#define PYRAMIDKV_KERNELS_AVX512_INT8_INL_H_

#include <immintrin.h>

namespace pyramidkv {
namespace {

template <class T>
inline T Read(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

inline __m512 Halves(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

// The largest whole number of so many planes: 256 * high + low, low in
// [-128, 127].
constexpr float LargestOf(int planes) {
  return planes == 2 ? 127.0f * 256 : 127.0f;
}

// 32 values as whole numbers of a unit.
struct WholeGroup {
  __m512i a, b;  // of the first 16, of the others
  float unit;
};

// least: as IntegerUnitFor has it.
inline WholeGroup RoundToWhole(__m512 a, __m512 b, float limit, float least) {
  // As integers, so that a NaN is the largest of all.
  const int most = _mm512_reduce_max_epi32(
      _mm512_max_epi32(_mm512_castps_si512(_mm512_abs_ps(a)),
                       _mm512_castps_si512(_mm512_abs_ps(b))));
  const IntegerUnit unit = IntegerUnitFor(Read<float>(&most), limit, least);
  const auto keep = static_cast<__mmask16>(unit.keep);
  const __m512 factor = _mm512_set1_ps(unit.factor);
  return {_mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(a, factor)),
          _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(b, factor)), unit.unit};
}

// to: [kPlanes, 32] s8, the plane of the high bits first.
template <int kPlanes>
inline void StorePlanes(const WholeGroup& group, void* to) {
  const auto store = [](__m128i* at, __m512i a, __m512i b) {
    _mm_storeu_si128(at, _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(at + 1, _mm512_cvtepi32_epi8(b));
  };
  auto* const planes = static_cast<__m128i*>(to);
  store(planes + 2 * (kPlanes - 1), group.a, group.b);
  if (kPlanes == 1) return;
  const __m512i round = _mm512_set1_epi32(128);
  store(planes, _mm512_srai_epi32(_mm512_add_epi32(group.a, round), 8),
        _mm512_srai_epi32(_mm512_add_epi32(group.b, round), 8));
}

}  // namespace
}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_AVX512_INT8_INL_H_
