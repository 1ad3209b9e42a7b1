#include "kernels/attention_decode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/attention_decode_int8.h"
#include "kernels/channel_keys.h"
#include "kernels/key_rounding.h"
#include "kernels/kv_quant.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_decode.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"         // must follow foreach_target.h
#include "kernels/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pyramidkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Vectors at a time, each of kGroup accumulators, as registers allow.
#if HWY_TARGET <= HWY_AVX3
constexpr int kKeyVectors = 2, kValueVectors = 8;
#elif HWY_TARGET == HWY_AVX2
constexpr int kKeyVectors = 4, kValueVectors = 4;
#else
constexpr int kKeyVectors = 2, kValueVectors = 4;
#endif
constexpr int kGroup = kSharingHeads;
constexpr int kBlockKeys = 16;  // keys in lanes of a K block

// Stored values as f32 vectors, one type per codec.
struct LoadF32 {
  using T = float;
  static HWY_INLINE V Load(const T* p) { return hn::LoadU(D(), p); }
};
struct LoadF16 {
  using T = hwy::float16_t;
  static HWY_INLINE V Load(const T* p) {
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<T, D>(), p));
  }
};
struct LoadBf16 {
  using T = hwy::bfloat16_t;
  static HWY_INLINE V Load(const T* p) {
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<T, D>(), p));
  }
};

// (a, b, a, b, ...) of the pair at p.
HWY_INLINE V BroadcastPair(const float* p) {
  const hn::Repartition<uint64_t, D> d64;
  uint64_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return hn::BitCast(D(), hn::Set(d64, bits));
}

// Asks for the cache lines of `bytes` bytes that lie `ahead` behind p.
HWY_INLINE void PrefetchAhead(const void* p, ptrdiff_t ahead, size_t bytes) {
  const char* at = static_cast<const char*>(p) + ahead;
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}

// scores[g * stride + 0..15] = k . q[g] for the 16 keys of one block.
// q: kHeads rows, head_dim apart. ahead: bytes to what is read next.
template <class L, int kHeads>
HWY_INLINE void ScoreBlock(const typename L::T* k, const float* q, int head_dim,
                           size_t stride, ptrdiff_t ahead, float* scores) {
  const D d;
  static_assert(kKeyVectors % 2 == 0);
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int vectors = 2 * kBlockKeys / lanes;
  for (int x = 0; x < vectors; x += kKeyVectors) {
    V sum[kHeads][kKeyVectors];
    for (int g = 0; g < kHeads; ++g) {
      for (int v = 0; v < kKeyVectors; ++v) sum[g][v] = hn::Zero(d);
    }
    const typename L::T* p = k + x * lanes;
    for (int i = 0; i < head_dim; i += 2, p += 2 * kBlockKeys) {
      if (x == 0) PrefetchAhead(p, ahead, 2 * kBlockKeys * sizeof(*p));
      V pair[kHeads];
      for (int g = 0; g < kHeads; ++g) {
        pair[g] = BroadcastPair(q + size_t(g) * head_dim + i);
      }
      for (int v = 0; v < kKeyVectors; ++v) {
        const V keys = L::Load(p + v * lanes);
        for (int g = 0; g < kHeads; ++g) {
          sum[g][v] = hn::MulAdd(keys, pair[g], sum[g][v]);
        }
      }
    }
    for (int g = 0; g < kHeads; ++g) {
      for (int v = 0; v < kKeyVectors; v += 2) {
        const V low = sum[g][v], high = sum[g][v + 1];
        const V dots =
            hn::Add(hn::ConcatEven(d, high, low), hn::ConcatOdd(d, high, low));
        hn::StoreU(dots, d, scores + g * stride + (x + v) * lanes / 2);
      }
    }
  }
}

// acc[g][0 .. 2 * head_dim) += v * p over `pairs` entry pairs of a page, for
// the kVectors vectors from `column` on. p: kHeads rows, stride apart.
template <class L, int kHeads, int kVectors>
HWY_INLINE void ValueTile(const typename L::T* v, const float* p, size_t stride,
                          int pairs, int head_dim, int column, ptrdiff_t ahead,
                          float* acc) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum[kHeads][kVectors];
  for (int g = 0; g < kHeads; ++g) {
    for (int x = 0; x < kVectors; ++x) {
      sum[g][x] =
          hn::LoadU(d, acc + size_t(g) * 2 * head_dim + column + x * lanes);
    }
  }
  const typename L::T* row = v + column;
  for (int j = 0; j < pairs; ++j, row += 2 * head_dim) {
    PrefetchAhead(row, ahead, kVectors * lanes * sizeof(*row));
    V weight[kHeads];
    for (int g = 0; g < kHeads; ++g) {
      weight[g] = BroadcastPair(p + g * stride + 2 * j);
    }
    for (int x = 0; x < kVectors; ++x) {
      const V value = L::Load(row + x * lanes);
      for (int g = 0; g < kHeads; ++g) {
        sum[g][x] = hn::MulAdd(value, weight[g], sum[g][x]);
      }
    }
  }
  for (int g = 0; g < kHeads; ++g) {
    for (int x = 0; x < kVectors; ++x) {
      hn::StoreU(sum[g][x], d,
                 acc + size_t(g) * 2 * head_dim + column + x * lanes);
    }
  }
}

template <class L, int kHeads>
HWY_INLINE void ValuePage(const typename L::T* v, const float* p, size_t stride,
                          int pairs, int head_dim, ptrdiff_t ahead,
                          float* acc) {
  const int lanes = static_cast<int>(hn::Lanes(D()));
  int column = 0;
  for (; column + kValueVectors * lanes <= 2 * head_dim;
       column += kValueVectors * lanes) {
    ValueTile<L, kHeads, kValueVectors>(v, p, stride, pairs, head_dim, column,
                                        ahead, acc);
  }
  for (; column < 2 * head_dim; column += lanes) {
    ValueTile<L, kHeads, 1>(v, p, stride, pairs, head_dim, column, ahead, acc);
  }
}

// Words of quantised values (kernels/kv_quant.h), as f32 without the scale.
template <Codec kCodecValue>
struct LoadQuant {
  using T = uint8_t;
  static constexpr Codec kCodec = kCodecValue;
  static constexpr int kBits = CodecBits(kCodec);
  static constexpr int kPerWord = 32 / kBits;
  using DW = hn::RebindToUnsigned<D>;

  static HWY_INLINE hn::Vec<DW> Words(const uint8_t* p) {
    return hn::LoadU(DW(), reinterpret_cast<const uint32_t*>(p));
  }
  template <int kIndex>
  static HWY_INLINE V Value(hn::Vec<DW> words) {
    constexpr int kShift = 8 * (kIndex % 4) + kBits * (kIndex / 4);
    const auto code = hn::And(hn::ShiftRight<kShift>(words),
                              hn::Set(DW(), (1u << kBits) - 1));
    const hn::RebindToSigned<D> di;
    return hn::Sub(hn::ConvertTo(D(), hn::BitCast(di, code)),
                   hn::Set(D(), QuantZero(kCodec)));
  }
  static HWY_INLINE V Scales(const std::byte* p) {
    const auto* f16 = reinterpret_cast<const hwy::float16_t*>(p);
    return hn::PromoteTo(D(), hn::LoadU(hn::Rebind<hwy::float16_t, D>(), f16));
  }
};

template <class L>
constexpr bool kQuantized = false;
template <Codec kCodec>
constexpr bool kQuantized<LoadQuant<kCodec>> = true;

// Calls f(std::integral_constant<int, i>) for i in [0, n).
template <class F, int... kIndex>
HWY_INLINE void Unroll(std::integer_sequence<int, kIndex...>, const F& f) {
  (f(std::integral_constant<int, kIndex>()), ...);
}

// scores[g * stride + slot] = k . q[g] for the 16 keys from `slot` of a page.
// q: rotated.
template <class L, int kHeads>
HWY_INLINE void ScoreQuantBlock(const std::byte* half, int page_entries,
                                int slot, const float* q, int head_dim,
                                size_t stride, float* scores) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const auto* codes = reinterpret_cast<const uint8_t*>(half) +
                      size_t(slot) * head_dim * L::kBits / 8;
  const std::byte* scales =
      half + QuantCodeBytes(L::kCodec, head_dim, page_entries);
  for (int x = 0; x < kBlockKeys; x += lanes) {
    V sum[kHeads];
    for (int g = 0; g < kHeads; ++g) sum[g] = hn::Zero(d);
    const uint8_t* p = codes + 4 * x;
    for (int c = 0; c < head_dim; c += kQuantGroup) {
      V dot[kHeads];
      for (int g = 0; g < kHeads; ++g) dot[g] = hn::Zero(d);
      const int end = std::min(c + kQuantGroup, head_dim);
      for (int i = c; i < end; i += L::kPerWord, p += 4 * kBlockKeys) {
        const auto words = L::Words(p);
        Unroll(std::make_integer_sequence<int, L::kPerWord>(), [&](auto at) {
          const V k = L::template Value<at>(words);
          for (int g = 0; g < kHeads; ++g) {
            dot[g] = hn::MulAdd(k, hn::Set(d, q[size_t(g) * head_dim + i + at]),
                                dot[g]);
          }
        });
      }
      const size_t at = size_t(c / kQuantGroup) * page_entries + slot + x;
      const V scale = L::Scales(scales + 2 * at);
      for (int g = 0; g < kHeads; ++g) {
        sum[g] = hn::MulAdd(dot[g], scale, sum[g]);
      }
    }
    for (int g = 0; g < kHeads; ++g) {
      hn::StoreU(sum[g], d, scores + g * stride + slot + x);
    }
  }
}

// The same for all blocks of a page whose keys are by channel; q: not rotated.
// scaled: [kHeads, head_dim], overwritten: a query times a group's scales.
template <class L, int kHeads>
HWY_INLINE void ScoreChannelPage(const PageFormat& f, const std::byte* k,
                                 int to, const float* q, float* scaled,
                                 float* scores) {
  const D d;
  const hn::CappedTag<float, 8> d8;  // head_dim % 8 == 0
  const hn::Rebind<hwy::float16_t, decltype(d8)> d16;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int lanes8 = static_cast<int>(hn::Lanes(d8));
  const auto* codes = reinterpret_cast<const uint8_t*>(k);
  float base[kHeads];  // q . low, and what codes count from
  for (int slot = 0; slot < to; slot += kBlockKeys) {
    if (slot % kChannelGroup == 0) {
      const auto* scales = reinterpret_cast<const hwy::float16_t*>(
          ChannelScales(f, k, slot / kChannelGroup));
      for (int g = 0; g < kHeads; ++g) {
        auto sum = hn::Zero(d8);
        for (int c = 0; c < f.head_dim; c += lanes8) {
          const auto x = hn::LoadU(d8, q + size_t(g) * f.head_dim + c);
          const auto times =
              hn::Mul(x, hn::PromoteTo(d8, hn::LoadU(d16, scales + c)));
          hn::StoreU(times, d8, scaled + size_t(g) * f.head_dim + c);
          const auto low =
              hn::PromoteTo(d8, hn::LoadU(d16, scales + f.head_dim + c));
          sum = hn::MulAdd(x, low, sum);
          sum = hn::MulAdd(times, hn::Set(d8, QuantZero(L::kCodec)), sum);
        }
        base[g] = hn::GetLane(hn::SumOfLanes(d8, sum));
      }
    }
    for (int x = 0; x < kBlockKeys; x += lanes) {
      V sum[kHeads];
      for (int g = 0; g < kHeads; ++g) sum[g] = hn::Set(d, base[g]);
      const uint8_t* p =
          codes + size_t(slot) * f.head_dim * L::kBits / 8 + 4 * x;
      for (int i = 0; i < f.head_dim; i += L::kPerWord, p += 4 * kBlockKeys) {
        const auto words = L::Words(p);
        Unroll(std::make_integer_sequence<int, L::kPerWord>(), [&](auto at) {
          const V key = L::template Value<at>(words);
          for (int g = 0; g < kHeads; ++g) {
            const float w = scaled[size_t(g) * f.head_dim + i + at];
            sum[g] = hn::MulAdd(key, hn::Set(d, w), sum[g]);
          }
        });
      }
      for (int g = 0; g < kHeads; ++g) {
        hn::StoreU(sum[g], d, scores + g * kPageEntries + slot + x);
      }
    }
  }
}

// acc[g][0 .. head_dim) += v * p over the first `entries` of a page. p: kHeads
// rows of [kPageEntries], zero from `entries` on up to a whole block.
// scaled: [kHeads, kPageEntries], overwritten.
template <class L, int kHeads>
HWY_INLINE void ValueQuantPage(const std::byte* half, int page_entries,
                               const float* p, int entries, int head_dim,
                               float* scaled, size_t acc_stride, float* acc) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const auto* codes = reinterpret_cast<const uint8_t*>(half);
  const std::byte* scales =
      half + QuantCodeBytes(L::kCodec, head_dim, page_entries);
  const int padded = (entries + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
  for (int c = 0; c < head_dim; c += kQuantGroup) {
    for (int j = 0; j < padded; j += lanes) {
      const size_t at = size_t(c / kQuantGroup) * page_entries + j;
      const V scale = L::Scales(scales + 2 * at);
      for (int g = 0; g < kHeads; ++g) {
        const size_t to = size_t(g) * kPageEntries + j;
        hn::StoreU(hn::Mul(scale, hn::LoadU(d, p + to)), d, scaled + to);
      }
    }
    const int end = std::min(c + kQuantGroup, head_dim);
    for (int x = c; x < end; x += lanes) {
      V sum[kHeads];
      for (int g = 0; g < kHeads; ++g) {
        sum[g] = hn::LoadU(d, acc + g * acc_stride + x);
      }
      const uint8_t* word = codes + size_t(4) * x;
      for (int j = 0; j < padded; j += L::kPerWord, word += 4 * head_dim) {
        const auto words = L::Words(word);
        Unroll(std::make_integer_sequence<int, L::kPerWord>(), [&](auto at) {
          const V v = L::template Value<at>(words);
          for (int g = 0; g < kHeads; ++g) {
            const float w = scaled[size_t(g) * kPageEntries + j + at];
            sum[g] = hn::MulAdd(v, hn::Set(d, w), sum[g]);
          }
        });
      }
      for (int g = 0; g < kHeads; ++g) {
        hn::StoreU(sum[g], d, acc + g * acc_stride + x);
      }
    }
  }
}

struct Part {
  const Segment* segment;
  const DecodeQuery* query;
  int from, to;                 // slots of this part, [from, to)
  const float* q;               // [group, head_dim], rotated where K is
  float* scores;                // [group, kPageEntries]
  float* acc;                   // [group, 2 * head_dim]
  float* weights;               // [group, kPartSlots] or null
  float* scaled;                // [kGroup, kPageEntries]
  float* key_q;                 // [kGroup, head_dim]
  const float* sums = nullptr;  // [group] of all weights so far
  // How quantised entries are multiplied as integers, null if they become
  // floats, and the queries of that, [group, QuantGroups(head_dim)].
  const IntegerForm* form;
  IntegerQuery* integers;
};

// scores[j] = scores[j] * scale + bias[j] for j in [0, n), rounded alike
// wherever an entry stands.
void AddBias(const float* bias, float scale, int n, float* scores) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  int j = 0;
  for (; j + lanes <= n; j += lanes) {
    const V s = hn::LoadU(d, scores + j);
    hn::StoreU(hn::MulAdd(s, hn::Set(d, scale), hn::LoadU(d, bias + j)), d,
               scores + j);
  }
  const hn::CappedTag<float, 1> one;
  for (; j < n; ++j) {
    const auto s = hn::LoadU(one, scores + j);
    hn::StoreU(hn::MulAdd(s, hn::Set(one, scale), hn::LoadU(one, bias + j)),
               one, scores + j);
  }
}

void Scale(float factor, int n, float* x) {
  const D d;
  const V f = hn::Set(d, factor);
  for (int i = 0; i < n; i += static_cast<int>(hn::Lanes(d))) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, x + i);
  }
}

// exp((score - max) * scale), not more than 1. FastExp in fewer instructions
// where there are better ones: the range is reduced by one, and what is below
// it becomes 0 as the power of two is applied.
HWY_INLINE V Exponential(V score, V max, V scale) {
  const D d;
#if HWY_TARGET <= HWY_AVX3
  // lowest * scale would leave the range; scale only what is real.
  const V diff = hn::Max(hn::Sub(score, max), hn::Set(d, -1e30f));
  const V limit = hn::Set(d, -200.0f);
  const V x =
      hn::Max(hn::Mul(diff, hn::Mul(scale, hn::Set(d, 1.44269504f))), limit);
  const V n = hn::Round(x);
  return V{_mm512_scalef_ps(SmallPower(d, hn::Sub(x, n)).raw, n.raw)};
#elif HWY_TARGET == HWY_AVX2
  const V limit = hn::Set(d, -127.0f);
  const V log2_scale = hn::Mul(scale, hn::Set(d, 1.44269504f));
  const V x = hn::Max(hn::Mul(hn::Sub(score, max), log2_scale), limit);
  // Adding this rounds, and leaves n + 127 in the lowest bits: the exponent.
  const V shift = hn::Set(d, 12582912.0f + 127.0f);
  const V shifted = hn::Add(x, shift);
  const V p = SmallPower(d, hn::Sub(x, hn::Sub(shifted, shift)));
  const hn::RebindToUnsigned<D> du;
  const auto power = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::Mul(p, hn::BitCast(d, power));
#else
  const V diff = hn::Max(hn::Sub(score, max), hn::Set(d, -1e30f));
  return FastExp(d, hn::Mul(diff, scale));
#endif
}

// The same of n scores, in place.
void Exponentials(float max, float scale, int n, float* scores) {
  const D d;
  for (int j = 0; j < n; j += static_cast<int>(hn::Lanes(d))) {
    const V score = hn::LoadU(d, scores + j);
    hn::StoreU(Exponential(score, hn::Set(d, max), hn::Set(d, scale)), d,
               scores + j);
  }
}

// Logits of query heads [g, g + kHeads) over a page to weights relative to
// their running maxima; rescales what is summed if one grew. Padding counts
// as nothing. Heads take turns, so that one's latency hides another's.
template <int kHeads>
void SoftmaxPage(const Part& part, int g, int padded, float scale, float* max,
                 float* sum) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int head_dim = part.segment->format.head_dim;
  float* scores = part.scores + g * kPageEntries;
  V top[kHeads];
  for (int h = 0; h < kHeads; ++h) top[h] = hn::Set(d, max[g + h]);
  for (int j = 0; j < padded; j += lanes) {
    for (int h = 0; h < kHeads; ++h) {
      top[h] = hn::Max(top[h], hn::LoadU(d, scores + h * kPageEntries + j));
    }
  }
  V total[kHeads];
  for (int h = 0; h < kHeads; ++h) {
    total[h] = hn::Zero(d);
    top[h] = hn::MaxOfLanes(d, top[h]);
    const float m = hn::GetLane(top[h]);
    float* const old = max + g + h;
    if (m > *old) {
      const float factor =
          sum[g + h] > 0 ? std::exp(std::max(*old - m, -1e30f) * scale) : 0.0f;
      sum[g + h] *= factor;
      Scale(factor, 2 * head_dim, part.acc + size_t(g + h) * 2 * head_dim);
      *old = m;
    }
  }
  for (int j = 0; j < padded; j += lanes) {
    for (int h = 0; h < kHeads; ++h) {
      float* const at = scores + h * kPageEntries + j;
      const V p = Exponential(hn::LoadU(d, at), top[h], hn::Set(d, scale));
      hn::StoreU(p, d, at);
      total[h] = hn::Add(total[h], p);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    sum[g + h] += hn::GetLane(hn::SumOfLanes(d, total[h]));
  }
}

// A page of a head, the part of it that is seen.
struct Page {
  const std::byte* k;
  const std::byte* v;
  int from, to;
  const std::byte* next;  // the page read after it, or itself
};

// Logits of query heads [g, g + kHeads) over a page.
template <class L, int kHeads>
void ScorePage(const Part& part, const Page& page, int g) {
  const PageFormat& f = part.segment->format;
  float* scores = part.scores + g * kPageEntries;
  if constexpr (kQuantized<L>) {
    if (f.channel) {
      return ScoreChannelPage<L, kHeads>(f, page.k, page.to,
                                         part.q + size_t(g) * f.head_dim,
                                         part.key_q, scores);
    }
    if (part.form != nullptr) {
      IntegerHalf k(L::kCodec, f.head_dim, f.entries, page.k, page.from,
                    page.to);
      k.next = page.next;
      k.next_bytes = f.k_bytes() + f.v_bytes();
      return part.form->score(k, part.integers + g * QuantGroups(f.head_dim),
                              kHeads, scores);
    }
  }
  const float* q = part.q + size_t(g) * f.head_dim;
  for (int slot = 0; slot < page.to; slot += kBlockKeys) {
    if constexpr (kQuantized<L>) {
      ScoreQuantBlock<L, kHeads>(page.k, f.entries, slot, q, f.head_dim,
                                 kPageEntries, scores);
    } else {
      const auto* keys = reinterpret_cast<const typename L::T*>(page.k);
      ScoreBlock<L, kHeads>(keys + size_t(slot) * f.head_dim, q, f.head_dim,
                            kPageEntries, page.v - page.k, scores + slot);
    }
  }
}

// Adds a page's values by the weights of query heads [g, g + kHeads).
template <class L, int kHeads>
void AddValues(const Part& part, const Page& page, int g) {
  const PageFormat& f = part.segment->format;
  const float* p = part.scores + g * kPageEntries;
  const size_t acc_stride = size_t(2) * f.head_dim;
  float* acc = part.acc + g * acc_stride;
  if constexpr (kQuantized<L>) {
    if (part.form != nullptr) {
      return part.form->add_values(
          {L::kCodec, f.head_dim, f.entries, page.v, page.from, page.to}, p,
          part.sums + g, kHeads, acc_stride, acc);
    }
    ValueQuantPage<L, kHeads>(page.v, f.entries, p, page.to, f.head_dim,
                              part.scaled, acc_stride, acc);
  } else {
    ValuePage<L, kHeads>(reinterpret_cast<const typename L::T*>(page.v), p,
                         kPageEntries, (page.to + 1) / 2, f.head_dim,
                         page.next - page.v, acc);
  }
}

// The work on the K or the V of a page, for kGroup query heads and for
// one. Called by pointer: compiled into one function for each pair of types of
// K and V, they would take compilers minutes.
struct PageStep {
  using Function = void (*)(const Part&, const Page&, int g);
  Function group, one;

  void Run(const Part& part, const Page& page) const {
    int g = 0;
    for (; g + kGroup <= part.query->group; g += kGroup) group(part, page, g);
    for (; g < part.query->group; ++g) one(part, page, g);
  }
};

template <class L>
PageStep Scoring() {
  return {ScorePage<L, kGroup>, ScorePage<L, 1>};
}

template <class L>
PageStep Adding() {
  return {AddValues<L, kGroup>, AddValues<L, 1>};
}

PageStep ScoringOf(Codec k) {
  switch (k) {
    case Codec::kF32:
      return Scoring<LoadF32>();
    case Codec::kF16:
      return Scoring<LoadF16>();
    case Codec::kBf16:
      return Scoring<LoadBf16>();
    case Codec::kInt8:
      return Scoring<LoadQuant<Codec::kInt8>>();
    case Codec::kInt4:
    case Codec::kInt2:  // values only
      break;
  }
  return Scoring<LoadQuant<Codec::kInt4>>();
}

PageStep AddingOf(Codec v) {
  switch (v) {
    case Codec::kF32:
      return Adding<LoadF32>();
    case Codec::kF16:
      return Adding<LoadF16>();
    case Codec::kBf16:
      return Adding<LoadBf16>();
    case Codec::kInt8:
      return Adding<LoadQuant<Codec::kInt8>>();
    case Codec::kInt4:
      return Adding<LoadQuant<Codec::kInt4>>();
    case Codec::kInt2:
      break;
  }
  return Adding<LoadQuant<Codec::kInt2>>();
}

// The bias of the entries in the slots [from, to) of the page that begins at
// slot `first`. listed: [kPageEntries], to gather in.
const float* PageBias(const Segment& s, int first, int from, int to,
                      float* listed) {
  if (s.entries == nullptr) return s.bias + (s.first_entry + first + from);
  for (int j = from; j < to; ++j) {
    listed[j - from] = s.bias[s.entries[first + j]];
  }
  return listed;
}

// Logits of what the row sees of a page; of all else the lowest number.
void MaskPage(const Part& part, int page, int from, int to, int padded) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  const Segment& s = *part.segment;
  const int first = page * s.format.entries;
  float listed[kPageEntries];
  const float* const bias =
      s.bias != nullptr ? PageBias(s, first, from, to, listed) : nullptr;
  const uint64_t unseen =
      size_t(page) < s.unseen.size() ? s.unseen[page] : uint64_t{0};
  for (int g = 0; g < part.query->group; ++g) {
    float* scores = part.scores + g * kPageEntries;
    if (bias != nullptr) {
      AddBias(bias, part.query->scale, to - from, scores + from);
    }
    std::fill(scores, scores + from, kLowest);
    std::fill(scores + to, scores + padded, kLowest);
    for (uint64_t left = unseen; left != 0; left &= left - 1) {
      scores[std::countr_zero(left)] = kLowest;
    }
    if (part.weights != nullptr) {  // pages of a part begin at its own slots
      const int slot = first - part.from / s.format.entries * s.format.entries;
      std::copy(scores, scores + padded,
                part.weights + size_t(g) * kPartSlots + slot);
    }
  }
}

// A page's K and V lie side by side. While one of them is read, the other or
// the next page is asked for: some processors' own guesses come too late.
void RunPage(const Part& part, PageStep score, PageStep add, int page,
             float* result) {
  const Segment& s = *part.segment;
  const int group = part.query->group;
  const int entries = s.format.entries;
  const int first = page * entries;
  const int from = std::max(part.from - first, 0);
  const int to = std::min(part.to - first, entries);
  const int padded = (to + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
  const std::byte* const k = s.pages[page];
  const bool last = (page + 1) * entries >= part.to;
  const Page at = {k, k + s.format.k_bytes(), from, to,
                   last ? k : s.pages[page + 1]};
  score.Run(part, at);
  MaskPage(part, page, from, to, padded);
  const float scale = s.bias != nullptr ? 1.0f : part.query->scale;
  float* const sums = result + group;
  int g = 0;
  for (; g + kGroup <= group; g += kGroup) {
    SoftmaxPage<kGroup>(part, g, padded, scale, result, sums);
  }
  for (; g < group; ++g) {
    SoftmaxPage<1>(part, g, padded, scale, result, sums);
  }
  add.Run(part, at);
}

void RunPart(Part part, float* result) {
  const Segment& s = *part.segment;
  const int group = part.query->group;
  const int head_dim = s.format.head_dim;
  std::fill(result, result + group, std::numeric_limits<float>::lowest());
  std::fill(result + group, result + 2 * group, 0.0f);
  std::fill(part.acc, part.acc + size_t(group) * 2 * head_dim, 0.0f);
  part.sums = result + group;
  const int entries = s.format.entries;
  const int first = part.from / entries;
  const PageStep score = ScoringOf(s.format.k), add = AddingOf(s.format.v);
  for (int page = first; page * entries < part.to; ++page) {
    RunPage(part, score, add, page, result);
  }
  float* out = result + 2 * group;
  for (int g = 0; g < group; ++g, out += head_dim) {
    const float* acc = part.acc + size_t(g) * 2 * head_dim;
    if (IsQuantized(s.format.v)) {
      std::copy(acc, acc + head_dim, out);
      RotateChannels(head_dim, out);
    } else {
      for (int i = 0; i < head_dim; ++i) out[i] = acc[2 * i] + acc[2 * i + 1];
    }
  }
  const float scale = s.bias != nullptr ? 1.0f : part.query->scale;
  const int padded =
      (part.to - first * entries + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
  for (int g = 0; g < group; ++g) {
    if (part.weights != nullptr) {
      Exponentials(result[g], scale, padded,
                   part.weights + size_t(g) * kPartSlots);
    }
    result[g] *= scale;
  }
}

void AttendDecodePartT(const Segment& segment, const DecodeQuery& query,
                       int part_index, float* scratch, float* weights,
                       float* result) {
  Part part;
  part.segment = &segment;
  part.query = &query;
  part.from = segment.part_begin(part_index);
  part.to = segment.part_end(part_index);
  part.scores = scratch;
  part.acc = scratch + size_t(query.group) * kPageEntries;
  part.weights = weights;
  const size_t head_dim = segment.format.head_dim;
  part.scaled = part.acc + size_t(query.group) * 2 * head_dim;
  part.q = query.q;
  float* const q = part.scaled + kGroup * kPageEntries;
  part.key_q = q + query.group * head_dim;
  part.integers =
      reinterpret_cast<IntegerQuery*>(part.key_q + kGroup * head_dim);
  part.form = query.integers ? BestIntegerForm() : nullptr;
  if (IsQuantized(segment.format.k) && !segment.format.channel) {
    std::copy(query.q, query.q + query.group * head_dim, q);
    for (int g = 0; g < query.group; ++g) {
      RotateChannels(segment.format.head_dim, q + g * head_dim);
    }
    part.q = q;
    if (part.form != nullptr) {
      part.form->round_queries(segment.format.k, q, query.group,
                               segment.format.head_dim, part.integers);
    }
  }
  RunPart(part, result);
  if (segment.key_rounding == nullptr) return;
  for (int g = 0; g < query.group; ++g) {
    result[g] +=
        query.scale * QueryShift(segment.key_rounding, segment.format.head_dim,
                                 query.q + g * head_dim);
  }
}

}  // namespace pyramidkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pyramidkv {

HWY_EXPORT(AttendDecodePartT);

void AttendDecodePart(const Segment& segment, const DecodeQuery& query,
                      int part, AlignedBuffer<float>* scratch, float* result,
                      float* weights) {
  const int head_dim = segment.format.head_dim;
  const size_t integers =
      QuantGroups(head_dim) * sizeof(IntegerQuery) / sizeof(float);
  scratch->Resize(size_t(query.group) *
                      (kPageEntries + 3 * head_dim + integers) +
                  kSharingHeads * (kPageEntries + head_dim));
  HWY_DYNAMIC_DISPATCH(AttendDecodePartT)
  (segment, query, part, scratch->data(), weights, result);
}

}  // namespace pyramidkv
#endif  // HWY_ONCE
