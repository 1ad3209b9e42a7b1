// Pieces that the kernels of integers in AVX2 intrinsics share.
//
// Include it after `#pragma GCC target(...)`, as kernels/avx512_bf16-inl.h
// says, with kernels/integer_unit.h before it. All here has internal linkage.

#ifndef PYRAMIDKV_KERNELS_AVX2_INT8_INL_H_
#define PYRAMIDKV_KERNELS_AVX2_INT8_INL_H_

#include <immintrin.h>

namespace pyramidkv {
namespace {

template <class T>
inline T Read(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

inline __m256i Load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline __m256i Broadcast(const void* p) {
  return _mm256_set1_epi32(Read<int>(p));
}
inline __m256 Halves(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline __m256 Abs(__m256 x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

inline int Sum(__m256i x) {
  __m128i y =
      _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}

// The larger of values that are not negative, compared as integers, so that a
// NaN is the largest of all.
inline __m256 Most(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(
      _mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
inline float Largest(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  __m128i y = _mm_max_epi32(_mm256_castsi256_si128(bits),
                            _mm256_extracti128_si256(bits, 1));
  y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4e));
  y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(y));
}

// 32 values as whole numbers of a unit, which is returned. least: as
// IntegerUnitFor has it.
inline float RoundToWhole(const __m256 (&x)[4], float limit, float least,
                          __m256i (&whole)[4]) {
  __m256 most = Abs(x[0]);
  for (int i = 1; i < 4; ++i) most = Most(most, Abs(x[i]));
  const IntegerUnit unit = IntegerUnitFor(Largest(most), limit, least);
  const __m256 factor = _mm256_set1_ps(unit.factor);
  const __m256i keep = _mm256_set1_epi32(unit.keep);
  for (int i = 0; i < 4; ++i) {
    whole[i] =
        _mm256_and_si256(_mm256_cvtps_epi32(_mm256_mul_ps(x[i], factor)), keep);
  }
  return unit.unit;
}

// 32 values as bytes, in order, saturated.
inline __m256i PackBytes(const __m256i (&v)[4]) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]),
                                           _mm256_packs_epi32(v[2], v[3]));
  return _mm256_permutevar8x32_epi32(bytes,
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

}  // namespace
}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_AVX2_INT8_INL_H_
