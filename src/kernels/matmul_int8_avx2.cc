// The AVX2 form of kernels/matmul_int8.h, for CPUs without VNNI. Its results
// are the VNNI form's, bit for bit.
//
// Products of bytes are summed in 16 bits as far as the quants leave room:
// over a whole block of 32 columns for 4 bits, over 8 columns for 5 and 6.
// Quants of 8 bits are widened first, and multiply both planes of an
// activation at once.

#include <immintrin.h>

#include "kernels/integer_unit.h"
#include "kernels/matmul_int8-inl.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#include "kernels/avx2_int8-inl.h"
#include "kernels/matmul_int8_rows-inl.h"

namespace pyramidkv {
namespace {

constexpr int kHalfRows = kGroupRows / 2;  // lanes of a vector

// How far before their use weights are asked for that each token reads anew.
// A processor's own guess comes too late for them: with this, one row takes
// 0.5 to 0.6 of the time when the weights are in the third-level cache.
constexpr int kReadAhead = 10240;  // bytes

inline void PrefetchLines(const uint8_t* at, int bytes) {
  for (int i = 0; i < bytes; i += 64) {
    _mm_prefetch(at + i, _MM_HINT_T0);
  }
}

inline __m128i Load8(const uint8_t* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}

// A step over some columns multiplies these: two vectors for each half of the
// 16 rows.
struct Quants {
  __m256i v[2][2];  // [part of the step][half of the rows]

  // Keeps the compiler from reading them again for each row.
  void Hold() {
    asm("" : "+x"(v[0][0]), "+x"(v[0][1]), "+x"(v[1][0]), "+x"(v[1][1]));
  }
};

// 32 bits become bytes: `value` where the bit is set, else 0.
inline __m256i BitBytes(uint32_t bits, int value) {
  const __m256i spread =
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                       2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i each = _mm256_set1_epi64x(0x8040201008040201LL);
  const __m256i bytes =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(bits)), spread);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
}

// Keeps the compiler from regrouping the additions that make up v: it would
// collect all products first, and run out of registers.
inline void InOrder(__m256i* v) { asm("" : "+x"(*v)); }

// Columns 4k ... 4k + 3 of 8 rows, unsigned.
template <int kBits>
inline __m256i Quant(const uint8_t* at, int k, int half) {
  __m256i v = Load(at + 64 * (k % 4) + 32 * half);
  if (k >= 4) v = _mm256_srli_epi16(v, 4);
  v = _mm256_and_si256(v, _mm256_set1_epi8(15));
  for (int bit = 4; bit < kBits; ++bit) {
    const auto plane = Read<uint32_t>(at + 64 * bit + 8 * k + 4 * half);
    v = _mm256_or_si256(v, BitBytes(plane, 1 << bit));
  }
  return v;
}

// How a format is multiplied by rows of kPlanes planes.
template <class F, int kPlanes>
struct Arithmetic {
  static constexpr bool kWide = F::kBits == 8;
  static constexpr bool kNarrowSums = F::kBits == 4;
  static constexpr int kStepColumns = kWide ? 4 : 8;
  static constexpr int kSteps = kBlockCols / kStepColumns;
  // How many a row and half has.
  static constexpr int kSums = kPlanes == 2 && !kWide ? 2 : 1;
  static constexpr int kRowsAtOnce = 4 / kSums;  // what registers hold

  static Quants Get(const uint8_t* at, int step) {
    Quants q;
    for (int half = 0; half < 2; ++half) {
      if constexpr (kWide) {
        const __m256i v = Load(at + 64 * step + 32 * half);
        q.v[0][half] = _mm256_and_si256(v, _mm256_set1_epi16(255));
        q.v[1][half] = _mm256_srli_epi16(v, 8);
      } else {
        q.v[0][half] = Quant<F::kBits>(at, 2 * step, half);
        q.v[1][half] = Quant<F::kBits>(at, 2 * step + 1, half);
      }
    }
    return q;
  }

  // Adds the products with a row's columns of the step.
  static void Add(const Quants& q, const uint8_t* x, int step,
                  __m256i (&sums)[kSums][2]) {
    if constexpr (kWide) {
      AddWide(q, x + step * kStepColumns, sums[0]);
      return;
    }
    for (int p = 0; p < kSums; ++p) {
      const uint8_t* at = x + p * kBlockCols + step * kStepColumns;
      const __m256i x0 = _mm256_set1_epi32(Read<int>(at));
      const __m256i x1 = _mm256_set1_epi32(Read<int>(at + 4));
      for (int half = 0; half < 2; ++half) {
        __m256i* const sum = &sums[p][half];
        const __m256i a = _mm256_maddubs_epi16(q.v[0][half], x0);
        const __m256i b = _mm256_maddubs_epi16(q.v[1][half], x1);
        if constexpr (kNarrowSums) {
          *sum = _mm256_add_epi16(*sum, a);
          InOrder(sum);
          *sum = _mm256_add_epi16(*sum, b);
        } else {
          const __m256i both = _mm256_add_epi16(a, b);
          *sum = _mm256_add_epi32(
              *sum, _mm256_madd_epi16(both, _mm256_set1_epi16(1)));
        }
        InOrder(sum);
      }
    }
  }

  // A row's sum in 32 bits.
  static __m256i Total(const __m256i (&sums)[kSums][2], int half) {
    __m256i total = Wide(sums[kSums - 1][half]);
    if (kSums == 2) {
      total =
          _mm256_add_epi32(total, _mm256_slli_epi32(Wide(sums[0][half]), 8));
    }
    return total;
  }

 private:
  static __m256i Wide(__m256i sum) {
    return kNarrowSums ? _mm256_madd_epi16(sum, _mm256_set1_epi16(1)) : sum;
  }

  // 16-bit values of bytes 0 and 2, 1 and 3 of each 32 bits.
  static void AddWide(const Quants& q, const uint8_t* x, __m256i (&sums)[2]) {
    const __m256i low = _mm256_set1_epi32(Read<int>(x + (kPlanes - 1) * 32));
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8);
    __m256i odd = _mm256_srai_epi16(low, 8);
    if (kPlanes == 2) {
      const __m256i high = _mm256_set1_epi32(Read<int>(x));
      even = _mm256_add_epi16(even, _mm256_slli_epi16(high, 8));
      odd = _mm256_add_epi16(odd,
                             _mm256_andnot_si256(_mm256_set1_epi16(255), high));
    }
    for (int half = 0; half < 2; ++half) {
      const __m256i a = _mm256_madd_epi16(q.v[0][half], even);
      const __m256i b = _mm256_madd_epi16(q.v[1][half], odd);
      sums[half] = _mm256_add_epi32(sums[half], _mm256_add_epi32(a, b));
      InOrder(&sums[half]);
    }
  }
};

inline __m256 Unsigned8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(Load8(p)));
}
inline __m256 Signed8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(Load8(p)));
}

// For 8 rows. a: d (of the first 16 columns in Q6_K); b: m (d of the others).
template <class F>
inline void LoadScales(const uint8_t* super, const uint8_t* scales, int half,
                       __m256* a, __m256* b) {
  super += 2 * kHalfRows * half;
  const uint8_t* halves = scales + 2 * kHalfRows * half;
  const uint8_t* bytes = scales + kHalfRows * half;
  *b = _mm256_setzero_ps();
  switch (F::kScales) {
    case BlockScales::kMin:
      *b = Halves(halves + 2 * kGroupRows);
      [[fallthrough]];
    case BlockScales::kZero:
      *a = Halves(halves);
      return;
    case BlockScales::kSuperMin:
      *a = _mm256_mul_ps(Halves(super), Unsigned8(bytes));
      *b = _mm256_mul_ps(Halves(super + 2 * kGroupRows),
                         Unsigned8(bytes + kGroupRows));
      *b = _mm256_sub_ps(_mm256_setzero_ps(), *b);  // ggml subtracts it
      return;
    case BlockScales::kSuperHalves:
      *a = _mm256_mul_ps(Halves(super), Signed8(bytes));
      *b = _mm256_mul_ps(Halves(super), Signed8(bytes + kGroupRows));
      return;
  }
}

// A block: 16 rows of 32 columns of the weights, and of some rows of x.
template <class F, int kGroup, int kPlanes>
struct Block {
  using A = Arithmetic<F, kPlanes>;
  static constexpr int kRows =
      kGroup < A::kRowsAtOnce ? kGroup : A::kRowsAtOnce;
  static constexpr bool kKeepsQuants = kGroup > kRows;

  __m256 d[2], m[2];
  const uint8_t* packed;
  Quants unpacked[A::kSteps];  // where several rows in turn read them

  Block(const uint8_t* super, const uint8_t* w) : packed(w) {
    for (int half = 0; half < 2; ++half) {
      LoadScales<F>(super, w + F::kQuantBytes, half, &d[half], &m[half]);
    }
    if constexpr (kKeepsQuants) {
#pragma GCC unroll 8
      for (int i = 0; i < A::kSteps; ++i) unpacked[i] = A::Get(w, i);
    }
  }

  // acc += the products of rows [first, first + kRows) of the group at x.
  [[gnu::always_inline]] void AddRows(const uint8_t* x, int first,
                                      __m256 (*acc)[2]) const {
    constexpr int kRowBytes = kPlanes * kBlockCols;
    const uint8_t* numbers = x + kGroup * kRowBytes + 4 * first;
    x += first * kRowBytes;
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      __m256i sums[kRows][A::kSums][2] = {};
#pragma GCC unroll 8
      for (int i = 0; i < A::kSteps / F::kParts; ++i) {
        const int step = part * A::kSteps / F::kParts + i;
        Quants q = kKeepsQuants ? unpacked[step] : A::Get(packed, step);
        q.Hold();
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          A::Add(q, x + r * kRowBytes, step, sums[r]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        Scale(numbers + 4 * r, part, sums[r], acc[r]);
      }
    }
  }

 private:
  // A row's sums, in whole numbers, to f32. numbers: [4, kGroup], see
  // Int8Rows.
  [[gnu::always_inline]] void Scale(const uint8_t* numbers, int part,
                                    const __m256i (&sums)[A::kSums][2],
                                    __m256 (&acc)[2]) const {
    const __m256 scale = _mm256_set1_ps(Read<float>(numbers));
    const __m256 scaled_sum = _mm256_set1_ps(Read<float>(numbers + 4 * kGroup));
    __m256i start = _mm256_setzero_si256();  // minus zero times the sum
    if constexpr (F::kZero > 0) {
      start = _mm256_set1_epi32(
          Read<int>(numbers + (F::kHalves && part == 0 ? 12 : 8) * kGroup));
      if (part == 1) {
        start = _mm256_sub_epi32(
            start, _mm256_set1_epi32(Read<int>(numbers + 12 * kGroup)));
      }
      start = _mm256_slli_epi32(start, F::kZero);
    }
    for (int half = 0; half < 2; ++half) {
      __m256i total = A::Total(sums, half);
      if (F::kZero > 0) total = _mm256_add_epi32(total, start);
      const __m256 own = part == 0 ? d[half] : m[half];
      acc[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total),
                                  _mm256_mul_ps(own, scale), acc[half]);
      if (F::kHasMin) {
        acc[half] = _mm256_fmadd_ps(m[half], scaled_sum, acc[half]);
      }
    }
  }
};

// 16 weight rows times kGroup activation rows.
template <class F, int kGroup, int kPlanes>
void GroupProduct(const uint8_t* w, const uint8_t* x, int blocks,
                  __m256 (&acc)[kGroup][2]) {
  using B = Block<F, kGroup, kPlanes>;
  const uint8_t* super = w;
  for (int r = 0; r < kGroup; ++r) {
    acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  }
  for (int b = 0; b < blocks; ++b) {
    if (F::kSuperBytes > 0 && b % kSuperBlocks == 0) {
      super = w;
      w += F::kSuperBytes;
    }
    const B block(super, w);
    for (int r = 0; r < kGroup; r += B::kRows) block.AddRows(x, r, acc + r);
    if (kGroup <= kFineGroup) {
      PrefetchLines(w + kReadAhead, F::kBlockBytes);
    }
    w += F::kBlockBytes;
    x += kGroup * BlockRowBytes(kPlanes);
  }
}

// The first `count` of 8 lanes.
inline __m256i FirstLanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

struct Avx2 {
  template <class F, int kGroup, int kPlanes>
  static void RowGroup(const Int8Call& c, const Int8Rows::Group& rows) {
    for (int g = c.first; g < c.first + c.count; ++g) {
      __m256 acc[kGroup][2];
      GroupProduct<F, kGroup, kPlanes>(c.tiles + g * c.group_bytes,
                                       c.x + rows.offset, c.blocks, acc);
      const int left = c.outputs - g * kGroupRows;
      float* y = c.y + rows.first * c.y_stride + g * kGroupRows;
      for (int r = 0; r < rows.rows; ++r, y += c.y_stride) {
        if (left >= kGroupRows) {
          _mm256_storeu_ps(y, acc[r][0]);
          _mm256_storeu_ps(y + kHalfRows, acc[r][1]);
        } else {
          _mm256_maskstore_ps(y, FirstLanes(left), acc[r][0]);
          _mm256_maskstore_ps(y + kHalfRows, FirstLanes(left - kHalfRows),
                              acc[r][1]);
        }
      }
    }
  }

  template <int kPlanes>
  static BlockSums QuantizeBlock(const float* x, uint8_t* to, float* unit) {
    constexpr float kMost = kPlanes == 2 ? 127.0f * 256 : 127.0f;
    __m256 v[4];
    for (int i = 0; i < 4; ++i) v[i] = _mm256_loadu_ps(x + 8 * i);
    __m256i q[4];
    *unit = RoundToWhole(v, kMost, 0.0f, q);
    const int half = Sum(_mm256_add_epi32(q[0], q[1]));
    const int all = half + Sum(_mm256_add_epi32(q[2], q[3]));
    auto* const planes = reinterpret_cast<__m256i*>(to);
    if (kPlanes == 2) {
      // q = 256 high + low with low in [-128, 127].
      __m256i high[4];
      for (int i = 0; i < 4; ++i) {
        high[i] = _mm256_srai_epi32(
            _mm256_add_epi32(q[i], _mm256_set1_epi32(128)), 8);
        q[i] = _mm256_sub_epi32(q[i], _mm256_slli_epi32(high[i], 8));
      }
      _mm256_storeu_si256(planes, PackBytes(high));
    }
    _mm256_storeu_si256(planes + (kPlanes - 1), PackBytes(q));
    return {all, half};
  }
};

}  // namespace

void QuantizeRowAvx2(const float* x, const Int8Rows::Group& group, int r,
                     int cols, uint8_t* to) {
  QuantizeRow<Avx2>(x, group, r, cols, to);
}

void MultiplyTilesAvx2(const TileFormat& tile, const Int8Call& call) {
  RunInt8Format<EachGroup<Avx2>>(tile, call);
}

}  // namespace pyramidkv

#pragma GCC pop_options
