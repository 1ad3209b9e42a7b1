#include "kernels/code_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/kv_codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_scores.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

#ifndef PYRAMIDKV_KERNELS_CODE_SCORES_CONSTANTS_
#define PYRAMIDKV_KERNELS_CODE_SCORES_CONSTANTS_
namespace pyramidkv {
namespace {

constexpr int kTableZero = 124;  // table entries are at most 248
constexpr int kTable = 16;
constexpr int kBlocksOfGroup = kCodeGroup / kCodeBlock;
constexpr int kMaxHeads = 4;  // queries that share what is read
static_assert(kMaxCodes * 2 * kTableZero <= 65535);

}  // namespace
}  // namespace pyramidkv
#endif

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

using D8 = hn::CappedTag<uint8_t, kCodeGroup>;
using D16 = hn::Repartition<uint16_t, D8>;
using DI = hn::Repartition<int32_t, D8>;
using D = hn::Repartition<float, D8>;
using V16 = hn::Vec<D16>;
using V = hn::Vec<D>;
static_assert(kBlocksOfGroup == 4, "a block is every fourth lane");

// Scales and bias of sums of one half of a vector of 16-bit sums.
HWY_INLINE V Scaled(hn::Vec<hn::Half<D16>> sum, V scale, int zero) {
  const DI di;
  const auto wide = hn::Sub(hn::PromoteTo(di, sum), hn::Set(di, zero));
  return hn::Mul(hn::ConvertTo(D(), wide), scale);
}

HWY_INLINE V LoadScales(const std::byte* p) {
  const hn::Rebind<hwy::float16_t, D> d;
  return hn::PromoteTo(
      D(), hn::LoadU(d, reinterpret_cast<const hwy::float16_t*>(p)));
}

// Sums of the entries at even and odd bytes of one vector, for kHeads queries.
template <int kHeads>
HWY_INLINE void SumTables(const CodeScoresArgs& a, const uint8_t* bits,
                          const uint8_t* tables, V16 (&even)[kHeads],
                          V16 (&odd)[kHeads]) {
  const D8 d8;
  const D16 d16;
  const size_t stride = CodeTableBytes(a.codes);
  for (int h = 0; h < kHeads; ++h) even[h] = odd[h] = hn::Zero(d16);
  const auto low_mask = hn::Set(d8, uint8_t{15});
  for (int i = 0; i < a.codes / 2; ++i, tables += 2 * kTable) {
    const auto byte = hn::LoadU(d8, bits + i * kCodeGroup);
    const auto low = hn::And(byte, low_mask);
    const auto high = hn::And(
        hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d16, byte))), low_mask);
    for (int h = 0; h < kHeads; ++h) {
      const uint8_t* table = tables + h * stride;
      const auto a0 = hn::BitCast(
          d16, hn::TableLookupBytes(hn::LoadDup128(d8, table), low));
      const auto a1 = hn::BitCast(
          d16, hn::TableLookupBytes(hn::LoadDup128(d8, table + kTable), high));
      // Both bytes for now; what the odd ones add is taken off below.
      even[h] = hn::Add(even[h], hn::Add(a0, a1));
      odd[h] = hn::Add(odd[h],
                       hn::Add(hn::ShiftRight<8>(a0), hn::ShiftRight<8>(a1)));
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    even[h] = hn::Sub(even[h], hn::ShiftLeft<8>(odd[h]));
  }
}

// The lanes' maximum in each class of lanes that are 4 apart.
template <class DN>
HWY_INLINE void StoreFolded(DN d, hn::Vec<DN> v, float* to) {
  if constexpr (hn::MaxLanes(d) > kBlocksOfGroup) {
    const hn::Half<DN> half;
    StoreFolded(half, hn::Max(hn::LowerHalf(half, v), hn::UpperHalf(half, v)),
                to);
  } else {
    hn::StoreU(v, d, to);
  }
}

// best[h][0 ... 4) of one group.
template <int kHeads>
void ScoreGroup(const CodeScoresArgs& a, const std::byte* group,
                const uint8_t* tables, float (*best)[kBlocksOfGroup]) {
  const D d;
  const hn::Half<D16> half;
  constexpr size_t kLanes = hn::MaxLanes(D8());
  const int zero = a.codes * kTableZero;
  const auto* bits = reinterpret_cast<const uint8_t*>(group);
  const std::byte* even_scales = group + size_t(a.codes / 2) * kCodeGroup;
  const std::byte* odd_scales = even_scales + kCodeGroup;
  V most[kHeads];
  for (int h = 0; h < kHeads; ++h) {
    most[h] = hn::Set(d, std::numeric_limits<float>::lowest());
  }
  for (size_t p = 0; p < kCodeGroup; p += kLanes) {
    V16 even[kHeads], odd[kHeads];
    SumTables<kHeads>(a, bits + p, tables, even, odd);
    const V e0 = LoadScales(even_scales + p);
    const V e1 = LoadScales(even_scales + p + kLanes / 2);
    const V o0 = LoadScales(odd_scales + p);
    const V o1 = LoadScales(odd_scales + p + kLanes / 2);
    for (int h = 0; h < kHeads; ++h) {
      const V e = hn::Max(Scaled(hn::LowerHalf(half, even[h]), e0, zero),
                          Scaled(hn::UpperHalf(half, even[h]), e1, zero));
      const V o = hn::Max(Scaled(hn::LowerHalf(half, odd[h]), o0, zero),
                          Scaled(hn::UpperHalf(half, odd[h]), o1, zero));
      most[h] = hn::Max(most[h], hn::Max(e, o));
    }
  }
  for (int h = 0; h < kHeads; ++h) StoreFolded(d, most[h], best[h]);
}

#else

template <int kHeads>
void ScoreGroup(const CodeScoresArgs& a, const std::byte* group,
                const uint8_t* tables, float (*best)[kBlocksOfGroup]) {
  const std::byte* scales = group + size_t(a.codes / 2) * kCodeGroup;
  for (int h = 0; h < kHeads; ++h) {
    const uint8_t* table = tables + h * CodeTableBytes(a.codes);
    std::fill_n(best[h], kBlocksOfGroup, std::numeric_limits<float>::lowest());
    for (int p = 0; p < kCodeGroup; ++p) {
      int sum = -a.codes * kTableZero;
      for (int i = 0; i < a.codes / 2; ++i) {
        const auto byte = static_cast<int>(group[i * kCodeGroup + p]);
        sum += table[2 * i * kTable + byte % kTable];
        sum += table[(2 * i + 1) * kTable + byte / kTable];
      }
      uint16_t scale;
      std::memcpy(&scale, scales + (p % 2) * kCodeGroup + p / 2 * 2, 2);
      float& most = best[h][p / 2 % kBlocksOfGroup];
      most = std::max(most, float(sum) * F32FromF16(scale));
    }
  }
}

#endif

void ScoreHeads(const CodeScoresArgs& a, const std::byte* group, int first,
                int heads, float (*best)[kBlocksOfGroup]) {
  const uint8_t* tables = a.tables + first * CodeTableBytes(a.codes);
  switch (heads) {
    case 1:
      return ScoreGroup<1>(a, group, tables, best);
    case 2:
      return ScoreGroup<2>(a, group, tables, best);
    case 3:
      return ScoreGroup<3>(a, group, tables, best);
    default:
      return ScoreGroup<kMaxHeads>(a, group, tables, best);
  }
}

void CodeScoresT(const CodeScoresArgs& a, float* best) {
  const std::byte* group = a.groups;
  for (int b = 0; b < a.blocks; b += kBlocksOfGroup) {
    const int count = std::min(kBlocksOfGroup, a.blocks - b);
    for (int first = 0; first < a.queries; first += kMaxHeads) {
      const int heads = std::min(kMaxHeads, a.queries - first);
      float of_group[kMaxHeads][kBlocksOfGroup];
      ScoreHeads(a, group, first, heads, of_group);
      for (int h = 0; h < heads; ++h) {
        float* to = best + size_t(first + h) * a.blocks + b;
        for (int i = 0; i < count; ++i) {
          to[i] = of_group[h][i] * a.steps[first + h];
        }
      }
    }
    group += CodeGroupBytes(a.codes);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(CodeScoresT);

constexpr float kLargestHalf = 65504.0f;
// The largest value of one channel of q by signs: four of them fit a byte.
constexpr int kMostOfSigns = kTableZero / kChannelsOfSigns;
constexpr int kColumnZero = 8;  // the code of 0
constexpr int kColumnMost = 7;

// Where an entry of a group lies: its byte in a row, and that of its scale.
int ByteOf(int entry) {
  const int block = entry / kCodeBlock, within = entry % kCodeBlock;
  return within / 2 * 8 + block * 2 + within % 2;
}
size_t ScaleAt(int codes, int byte) {
  return size_t(codes / 2 + byte % 2) * kCodeGroup + byte / 2 * 2;
}

// The largest magnitude that is finite.
float Largest(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i) {
    if (std::isfinite(x[i])) most = std::max(most, std::fabs(x[i]));
  }
  return most;
}

// x over a step whose inverse is given, in [-most, most]; 0 if that is no
// number, as where x is not finite or the step too small for an inverse.
int Rounded(float x, float inverse, int most) {
  const float whole = x * inverse;
  if (!std::isfinite(whole)) return 0;
  return std::clamp(static_cast<int>(std::lround(whole)), -most, most);
}

}  // namespace

float SignCodes(const float* k, int head_dim, uint8_t* codes) {
  float sum = 0;
  for (int i = 0; i < head_dim; i += kChannelsOfSigns) {
    int bits = 0;
    for (int c = 0; c < kChannelsOfSigns; ++c) {
      sum += std::fabs(k[i + c]);
      bits |= (k[i + c] < 0 ? 0 : 1) << c;
    }
    *codes++ = static_cast<uint8_t>(bits);
  }
  return sum / static_cast<float>(head_dim);
}

float SignTables(const float* q, int head_dim, uint8_t* tables) {
  const float step = Largest(q, head_dim) / kMostOfSigns;
  const float inverse = step > 0 ? 1.0f / step : 0.0f;
  for (int i = 0; i < head_dim; i += kChannelsOfSigns, tables += kTable) {
    int rounded[kChannelsOfSigns];
    for (int c = 0; c < kChannelsOfSigns; ++c) {
      rounded[c] = Rounded(q[i + c], inverse, kMostOfSigns);
    }
    for (int bits = 0; bits < kTable; ++bits) {
      int sum = kTableZero;
      for (int c = 0; c < kChannelsOfSigns; ++c) {
        sum += (bits >> c & 1) != 0 ? rounded[c] : -rounded[c];
      }
      tables[bits] = static_cast<uint8_t>(sum);
    }
  }
  return step;
}

float ColumnCodes(const float* k, int columns, uint8_t* codes) {
  const float scale = Largest(k, columns) / kColumnMost;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int c = 0; c < columns; ++c) {
    codes[c] =
        static_cast<uint8_t>(kColumnZero + Rounded(k[c], inverse, kColumnMost));
  }
  return scale;
}

float ColumnTables(const float* q, int columns, uint8_t* tables) {
  const float step = Largest(q, columns) * kColumnMost / kTableZero;
  const float inverse = step > 0 ? 1.0f / step : 0.0f;
  for (int c = 0; c < columns; ++c, tables += kTable) {
    for (int code = 0; code < kTable; ++code) {
      const float value = q[c] * static_cast<float>(code - kColumnZero);
      tables[code] = static_cast<uint8_t>(kTableZero +
                                          Rounded(value, inverse, kTableZero));
    }
  }
  return step;
}

void StoreCodes(const uint8_t* codes, int count, float scale, int entry,
                std::byte* group) {
  DCHECK(count % 2 == 0 && count <= kMaxCodes);
  DCHECK(entry >= 0 && entry < kCodeGroup);
  const int byte = ByteOf(entry);
  for (int i = 0; i < count / 2; ++i) {
    group[i * kCodeGroup + byte] =
        static_cast<std::byte>(codes[2 * i] | codes[2 * i + 1] << 4);
  }
  // A NaN would be worth more or less than all, as the comparison goes.
  const uint16_t half =
      F16FromF32(scale <= kLargestHalf ? scale : kLargestHalf);
  std::memcpy(group + ScaleAt(count, byte), &half, sizeof(half));
}

void CopyCodes(int count, int from, int to, std::byte* group) {
  const int at = ByteOf(from), dest = ByteOf(to);
  for (int i = 0; i < count / 2; ++i) {
    group[i * kCodeGroup + dest] = group[i * kCodeGroup + at];
  }
  std::memcpy(group + ScaleAt(count, dest), group + ScaleAt(count, at),
              sizeof(uint16_t));
}

void CodeScores(const CodeScoresArgs& args, float* best) {
  HWY_DYNAMIC_DISPATCH(CodeScoresT)(args, best);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
