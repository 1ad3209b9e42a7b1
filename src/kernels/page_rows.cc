#include "kernels/page_rows.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/page_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h

#ifndef PYRAMIDKV_KERNELS_PAGE_ROWS_LAYOUT_
#define PYRAMIDKV_KERNELS_PAGE_ROWS_LAYOUT_
namespace pyramidkv {

// Keys of a page lie in groups: [head_dim / 2][kGroup][2].
constexpr int kGroup = 16;
constexpr int kPairs = 16;  // channel pairs that are turned at once

}  // namespace pyramidkv
#endif

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Where a conversion between f16 and f32 is one instruction; what stands in
// for it elsewhere need not round as the codec does.
#if HWY_TARGET <= HWY_AVX2
constexpr bool kFast = true;
#else
constexpr bool kFast = false;
#endif

void FromF16T(const uint16_t* HWY_RESTRICT from, size_t n,
              float* HWY_RESTRICT to) {
  size_t i = 0;
  if constexpr (kFast) {
    const hn::ScalableTag<float> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    const auto* halves = reinterpret_cast<const hwy::float16_t*>(from);
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
      hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, halves + i)), d, to + i);
    }
  }
  for (; i < n; ++i) to[i] = F32FromF16(from[i]);
}

void ToF16T(const float* HWY_RESTRICT from, size_t n,
            uint16_t* HWY_RESTRICT to) {
  size_t i = 0;
  if constexpr (kFast) {
    const hn::ScalableTag<float> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> d16;
    auto* halves = reinterpret_cast<hwy::float16_t*>(to);
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
      hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, from + i)), d16, halves + i);
    }
  }
  for (; i < n; ++i) to[i] = F16FromF32(from[i]);
}

// [pairs][kGroup] units to [entries][pairs] of them: rows begin `stride`
// units apart.
template <typename Unit>
HWY_INLINE void Turn(const Unit* HWY_RESTRICT from, int pairs, int entries,
                     size_t stride, Unit* HWY_RESTRICT to) {
  for (int e = 0; e < entries; ++e) {
    for (int p = 0; p < pairs; ++p) to[e * stride + p] = from[p * kGroup + e];
  }
}

struct TwoFloats {
  float x[2];
};
struct TwoHalves {
  uint16_t x[2];
};

// Keys of one group, f16. k, k16: rows of its first entry, or null.
void LoadKeys(const uint16_t* group, int head_dim, int entries, float* k,
              uint16_t* k16) {
  HWY_ALIGN TwoFloats wide[kPairs * kGroup];
  HWY_ALIGN TwoHalves rounded[kPairs * kGroup];
  const int all = head_dim / 2;
  for (int first = 0; first < all; first += kPairs) {
    const int pairs = std::min(kPairs, all - first);
    const size_t n = size_t(pairs) * kGroup * 2;
    FromF16T(group + size_t(first) * kGroup * 2, n, wide[0].x);
    if (k != nullptr) {
      Turn(wide, pairs, entries, all, reinterpret_cast<TwoFloats*>(k) + first);
    }
    if (k16 == nullptr) continue;
    ToBf16(wide[0].x, n, rounded[0].x);
    Turn(rounded, pairs, entries, all,
         reinterpret_cast<TwoHalves*>(k16) + first);
  }
}

// Values of one pair of entries, f16. v: rows of the first, or null.
void LoadValues(const uint16_t* pair, int head_dim, int entries, float* v,
                uint16_t* v16) {
  constexpr int kChannels = 64;
  HWY_ALIGN float wide[2 * kChannels];
  for (int first = 0; first < head_dim; first += kChannels) {
    const int channels = std::min(kChannels, head_dim - first);
    FromF16T(pair + 2 * first, 2 * channels, wide);
    if (v16 != nullptr) ToBf16(wide, 2 * channels, v16 + 2 * first);
    for (int e = 0; v != nullptr && e < entries; ++e) {
      float* const row = v + size_t(e) * head_dim + first;
      for (int c = 0; c < channels; ++c) row[c] = wide[2 * c + e];
    }
  }
  if (v16 == nullptr || entries == 2) return;
  for (int c = 0; c < head_dim; ++c) v16[2 * c + 1] = 0;
}

void LoadF16Page(const PageFormat& format, const std::byte* page, int count,
                 const PageRows& to) {
  const size_t d = format.head_dim;
  const auto* keys = reinterpret_cast<const uint16_t*>(page);
  const auto* values =
      reinterpret_cast<const uint16_t*>(page + format.k_bytes());
  const bool any_keys = to.k != nullptr || to.k16 != nullptr;
  for (int i = 0; any_keys && i < count; i += kGroup) {
    LoadKeys(keys + i * d, format.head_dim, std::min(kGroup, count - i),
             to.k != nullptr ? to.k + i * d : nullptr,
             to.k16 != nullptr ? to.k16 + i * d : nullptr);
  }
  const bool any_values = to.v != nullptr || to.v16 != nullptr;
  for (int i = 0; any_values && i < count; i += 2) {
    LoadValues(values + i * d, format.head_dim, std::min(2, count - i),
               to.v != nullptr ? to.v + i * d : nullptr,
               to.v16 != nullptr ? to.v16 + i * d : nullptr);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {
namespace {

HWY_EXPORT(LoadF16Page);
HWY_EXPORT(ToF16T);
HWY_EXPORT(FromF16T);

// Any format, entry by entry.
void LoadEntries(const PageFormat& format, const std::byte* page, int count,
                 const PageRows& to) {
  const int d = format.head_dim;
  AlignedBuffer<float> row(2 * size_t(d));
  for (int i = 0; i < count; ++i) {
    float* const k_row = to.k != nullptr ? to.k + size_t(i) * d : row.data();
    float* const v_row =
        to.v != nullptr ? to.v + size_t(i) * d : row.data() + d;
    LoadEntry(format, page, i, k_row, v_row);
    if (to.k16 != nullptr) ToBf16(k_row, d, to.k16 + size_t(i) * d);
    if (to.v16 != nullptr) StoreValueRow(v_row, d, i, to.v16);
  }
  if (to.v16 == nullptr || count % 2 == 0) return;
  uint16_t* const pair = to.v16 + size_t(count / 2) * 2 * d;
  for (int c = 0; c < d; ++c) pair[2 * c + 1] = 0;
}

}  // namespace

void LoadPage(const PageFormat& format, const std::byte* page, int count,
              const PageRows& to) {
  DCHECK(count > 0 && count <= kPageEntries);
  if (format.k == Codec::kF16 && format.v == Codec::kF16) {
    return HWY_DYNAMIC_DISPATCH(LoadF16Page)(format, page, count, to);
  }
  LoadEntries(format, page, count, to);
}

void StoreValueRow(const float* v, int head_dim, size_t entry,
                   uint16_t* pairs) {
  uint16_t* const pair = pairs + entry / 2 * 2 * head_dim + entry % 2;
  constexpr int kChannels = 64;
  uint16_t rounded[kChannels];
  for (int first = 0; first < head_dim; first += kChannels) {
    const int channels = std::min(kChannels, head_dim - first);
    ToBf16(v + first, channels, rounded);
    for (int c = 0; c < channels; ++c) pair[2 * (first + c)] = rounded[c];
  }
}

void ToF16(const float* from, size_t n, uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(ToF16T)(from, n, to);
}
void FromF16(const uint16_t* from, size_t n, float* to) {
  HWY_DYNAMIC_DISPATCH(FromF16T)(from, n, to);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
