#include "kernels/sign_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/kv_codec.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sign_scores.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

#ifndef PYRAMIDKV_KERNELS_SIGN_SCORES_CONSTANTS_
#define PYRAMIDKV_KERNELS_SIGN_SCORES_CONSTANTS_
namespace pyramidkv {
namespace {

constexpr int kMost = 31;  // of a channel of q: four of them fit a byte
constexpr int kTableZero = 4 * kMost;
constexpr int kTable = 16;
constexpr int kBlocksOfGroup = kSignGroup / kSignBlock;
constexpr int kMaxHeads = 4;  // queries that share what is read
// Sums of table entries stay in 16 bits.
constexpr int kMaxHeadDim = 65535 / (2 * kTableZero) * 4;

}  // namespace
}  // namespace pyramidkv
#endif

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

using D8 = hn::CappedTag<uint8_t, kSignGroup>;
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
HWY_INLINE void SumTables(const SignScoresArgs& a, const uint8_t* bits,
                          const uint8_t* tables, V16 (&even)[kHeads],
                          V16 (&odd)[kHeads]) {
  const D8 d8;
  const D16 d16;
  const size_t stride = SignTableBytes(a.head_dim);
  for (int h = 0; h < kHeads; ++h) even[h] = odd[h] = hn::Zero(d16);
  const auto low_mask = hn::Set(d8, uint8_t{15});
  for (int i = 0; i < a.head_dim / 8; ++i, tables += 2 * kTable) {
    const auto byte = hn::LoadU(d8, bits + i * kSignGroup);
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
void ScoreGroup(const SignScoresArgs& a, const std::byte* group,
                const uint8_t* tables, float (*best)[kBlocksOfGroup]) {
  const D d;
  const hn::Half<D16> half;
  constexpr size_t kLanes = hn::MaxLanes(D8());
  const int zero = a.head_dim / 4 * kTableZero;
  const auto* bits = reinterpret_cast<const uint8_t*>(group);
  const std::byte* even_scales = group + size_t(a.head_dim / 8) * kSignGroup;
  const std::byte* odd_scales = even_scales + kSignGroup;
  V most[kHeads];
  for (int h = 0; h < kHeads; ++h) {
    most[h] = hn::Set(d, std::numeric_limits<float>::lowest());
  }
  for (size_t p = 0; p < kSignGroup; p += kLanes) {
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
void ScoreGroup(const SignScoresArgs& a, const std::byte* group,
                const uint8_t* tables, float (*best)[kBlocksOfGroup]) {
  const std::byte* scales = group + size_t(a.head_dim / 8) * kSignGroup;
  for (int h = 0; h < kHeads; ++h) {
    const uint8_t* table = tables + h * SignTableBytes(a.head_dim);
    std::fill_n(best[h], kBlocksOfGroup, std::numeric_limits<float>::lowest());
    for (int p = 0; p < kSignGroup; ++p) {
      int sum = -a.head_dim / 4 * kTableZero;
      for (int i = 0; i < a.head_dim / 8; ++i) {
        const auto byte = static_cast<int>(group[i * kSignGroup + p]);
        sum += table[2 * i * kTable + byte % kTable];
        sum += table[(2 * i + 1) * kTable + byte / kTable];
      }
      uint16_t scale;
      std::memcpy(&scale, scales + (p % 2) * kSignGroup + p / 2 * 2, 2);
      float& most = best[h][p / 2 % kBlocksOfGroup];
      most = std::max(most, float(sum) * F32FromF16(scale));
    }
  }
}

#endif

void ScoreHeads(const SignScoresArgs& a, const std::byte* group, int first,
                int heads, float (*best)[kBlocksOfGroup]) {
  const uint8_t* tables = a.tables + first * SignTableBytes(a.head_dim);
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

void SignScoresT(const SignScoresArgs& a, float* best) {
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
    group += SignGroupBytes(a.head_dim);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(SignScoresT);

// Where an entry of a group lies: its byte in a row, and that of its scale.
int ByteOf(int entry) {
  const int block = entry / kSignBlock, within = entry % kSignBlock;
  return within / 2 * 8 + block * 2 + within % 2;
}
size_t ScaleAt(int head_dim, int byte) {
  return size_t(head_dim / 8 + byte % 2) * kSignGroup + byte / 2 * 2;
}

}  // namespace

void StoreSigns(const float* k, int head_dim, int entry, std::byte* group) {
  DCHECK(head_dim % 8 == 0 && entry >= 0 && entry < kSignGroup);
  constexpr float kLargestHalf = 65504.0f;
  const int byte = ByteOf(entry);
  float sum = 0;
  for (int i = 0; i < head_dim; i += 8) {
    int bits = 0;
    for (int c = 0; c < 8; ++c) {
      sum += std::fabs(k[i + c]);
      bits |= (k[i + c] < 0 ? 0 : 1) << c;
    }
    group[i / 8 * kSignGroup + byte] = static_cast<std::byte>(bits);
  }
  const float mean = sum / static_cast<float>(head_dim);
  const uint16_t scale =
      F16FromF32(mean < kLargestHalf ? mean : kLargestHalf);  // or NaN
  std::memcpy(group + ScaleAt(head_dim, byte), &scale, sizeof(scale));
}

void CopySigns(int head_dim, int from, int to, std::byte* group) {
  const int at = ByteOf(from), dest = ByteOf(to);
  for (int i = 0; i < head_dim / 8; ++i) {
    group[i * kSignGroup + dest] = group[i * kSignGroup + at];
  }
  std::memcpy(group + ScaleAt(head_dim, dest), group + ScaleAt(head_dim, at),
              sizeof(uint16_t));
}

float SignTables(const float* q, int head_dim, uint8_t* tables) {
  DCHECK(head_dim % 8 == 0 && head_dim <= kMaxHeadDim);
  float most = 0;
  for (int i = 0; i < head_dim; ++i) {
    if (std::isfinite(q[i])) most = std::max(most, std::fabs(q[i]));
  }
  const float step = most / kMost;
  const float inverse = step > 0 ? 1.0f / step : 0.0f;
  for (int i = 0; i < head_dim; i += 4, tables += kTable) {
    int rounded[4];
    for (int c = 0; c < 4; ++c) {
      const float value = q[i + c] * inverse;
      rounded[c] = std::fabs(value) <= kMost + 1
                       ? static_cast<int>(std::lround(value))
                       : 0;
      rounded[c] = std::clamp(rounded[c], -kMost, kMost);
    }
    for (int bits = 0; bits < kTable; ++bits) {
      int sum = kTableZero;
      for (int c = 0; c < 4; ++c) {
        sum += (bits >> c & 1) != 0 ? rounded[c] : -rounded[c];
      }
      tables[bits] = static_cast<uint8_t>(sum);
    }
  }
  return step;
}

void SignScores(const SignScoresArgs& args, float* best) {
  HWY_DYNAMIC_DISPATCH(SignScoresT)(args, best);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
