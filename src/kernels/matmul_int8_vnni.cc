// The AVX-512 VNNI form of kernels/matmul_int8.h.

#include <immintrin.h>

#include "kernels/integer_unit.h"
#include "kernels/matmul_int8-inl.h"

#pragma GCC push_options
// The compiler's own AVX-512 headers start from undefined vectors.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")

#include "kernels/avx512_int8-inl.h"
#include "kernels/matmul_int8_rows-inl.h"

namespace pyramidkv {
namespace {

constexpr int kVectors = kBlockCols / 4;  // of quants in a block

template <int kBits>
struct Quants {
  explicit Quants(const uint8_t* at) : at_(at) {}

  // Columns 4k ... 4k + 3 of each of the 16 rows, unsigned.
  __m512i Get(int k) const {
    if (kBits == 8) return _mm512_loadu_si512(at_ + 64 * k);
    __m512i v = _mm512_loadu_si512(at_ + 64 * (k % 4));
    if (k >= 4) v = _mm512_srli_epi16(v, 4);
    v = _mm512_and_si512(v, _mm512_set1_epi8(15));
    for (int bit = 4; bit < kBits; ++bit) {
      const auto plane = Read<uint64_t>(at_ + 64 * bit + 8 * k);
      v = _mm512_mask_add_epi8(v, plane, v, _mm512_set1_epi8(1 << bit));
    }
    return v;
  }

 private:
  const uint8_t* at_;
};

inline __m512 Unsigned8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline __m512 Signed8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// a: d (of the first 16 columns in Q6_K); b: m (d of the others).
template <class F>
inline void LoadScales(const uint8_t* super, const uint8_t* scales, __m512* a,
                       __m512* b) {
  *b = _mm512_setzero_ps();
  switch (F::kScales) {
    case BlockScales::kMin:
      *b = Halves(scales + 2 * kGroupRows);
      [[fallthrough]];
    case BlockScales::kZero:
      *a = Halves(scales);
      return;
    case BlockScales::kSuperMin:
      *a = _mm512_mul_ps(Halves(super), Unsigned8(scales));
      *b = _mm512_mul_ps(Halves(super + 2 * kGroupRows),
                         Unsigned8(scales + kGroupRows));
      *b = _mm512_sub_ps(_mm512_setzero_ps(), *b);  // ggml subtracts it
      return;
    case BlockScales::kSuperHalves:
      *a = _mm512_mul_ps(Halves(super), Signed8(scales));
      *b = _mm512_mul_ps(Halves(super), Signed8(scales + kGroupRows));
      return;
  }
}

// Where an integer sum starts: minus the zero point times the activations.
template <class F>
inline __m512i Start(int minus_sum) {
  const __m512i s = _mm512_set1_epi32(minus_sum);
  return F::kZero > 0 ? _mm512_slli_epi32(s, F::kZero) : _mm512_setzero_si512();
}

// 16 weight rows times kRows activation rows.
template <class F, int kRows, int kPlanes>
void GroupProduct(const uint8_t* w, const uint8_t* x, int blocks, __m512* acc) {
  constexpr int kRowBytes = kPlanes * kBlockCols;
  const uint8_t* super = w;
  for (int r = 0; r < kRows; ++r) acc[r] = _mm512_setzero_ps();
  for (int b = 0; b < blocks; ++b) {
    if (F::kSuperBytes > 0 && b % kSuperBlocks == 0) {
      super = w;
      w += F::kSuperBytes;
    }
    const auto* scale = reinterpret_cast<const float*>(x + kRows * kRowBytes);
    const auto* scaled_sum = scale + kRows;
    const auto* minus_sum =
        reinterpret_cast<const int32_t*>(scaled_sum + kRows);
    const auto* minus_half = minus_sum + kRows;
    __m512 d, m;
    LoadScales<F>(super, w + F::kQuantBytes, &d, &m);
    const Quants<F::kBits> quants(w);
    constexpr int kParts = F::kParts;
    for (int part = 0; part < kParts; ++part) {
      __m512i sum[kRows][kPlanes];
      for (int r = 0; r < kRows; ++r) {
        const int start = !F::kHalves ? minus_sum[r]
                          : part == 0 ? minus_half[r]
                                      : minus_sum[r] - minus_half[r];
        // The last plane holds the low bits.
        for (int p = 0; p < kPlanes - 1; ++p)
          sum[r][p] = _mm512_setzero_si512();
        sum[r][kPlanes - 1] = Start<F>(start);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kVectors / kParts; ++i) {
        const int k = part * kVectors / 2 + i;
        const __m512i v = quants.Get(k);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          for (int p = 0; p < kPlanes; ++p) {
            sum[r][p] = _mm512_dpbusd_epi32(
                sum[r][p], v,
                _mm512_set1_epi32(
                    Read<int>(x + r * kRowBytes + p * kBlockCols + 4 * k)));
          }
        }
      }
      const __m512 own = part == 0 ? d : m;
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        __m512i total = sum[r][kPlanes - 1];
        if (kPlanes == 2) {
          total = _mm512_add_epi32(total, _mm512_slli_epi32(sum[r][0], 8));
        }
        acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total),
                                 _mm512_mul_ps(own, _mm512_set1_ps(scale[r])),
                                 acc[r]);
        if (F::kHasMin) {
          acc[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(scaled_sum[r]), acc[r]);
        }
      }
    }
    if (kRows <= 2) _mm_prefetch(w + 2560, _MM_HINT_T0);
    w += F::kBlockBytes;
    x += kRows * BlockRowBytes(kPlanes);
  }
}

struct Vnni {
  template <class F, int kRows, int kPlanes>
  static void RowGroup(const Int8Call& c, const Int8Rows::Group& rows) {
    for (int g = c.first; g < c.first + c.count; ++g) {
      __m512 acc[kRows];
      GroupProduct<F, kRows, kPlanes>(c.tiles + g * c.group_bytes,
                                      c.x + rows.offset, c.blocks, acc);
      const int left = c.outputs - g * kGroupRows;
      const __mmask16 mask = left >= kGroupRows ? 0xffff : (1 << left) - 1;
      float* y = c.y + rows.first * c.y_stride + g * kGroupRows;
      for (int r = 0; r < rows.rows; ++r) {
        _mm512_mask_storeu_ps(y + r * c.y_stride, mask, acc[r]);
      }
    }
  }

  template <int kPlanes>
  static BlockSums QuantizeBlock(const float* x, uint8_t* to, float* unit) {
    const WholeGroup whole = RoundToWhole(
        _mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), LargestOf(kPlanes), 0.0f);
    StorePlanes<kPlanes>(whole, to);
    *unit = whole.unit;
    const int half = _mm512_reduce_add_epi32(whole.a);
    return {half + _mm512_reduce_add_epi32(whole.b), half};
  }
};

}  // namespace

void QuantizeRowVnni(const float* x, const Int8Rows::Group& group, int r,
                     int cols, uint8_t* to) {
  QuantizeRow<Vnni>(x, group, r, cols, to);
}

void MultiplyTilesVnni(const TileFormat& tile, const Int8Call& call) {
  RunInt8Format<EachGroup<Vnni>>(tile, call);
}

}  // namespace pyramidkv

#pragma GCC pop_options
