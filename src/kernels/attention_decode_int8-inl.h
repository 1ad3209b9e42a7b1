// The doors of a form of kernels/attention_decode_int8.h, the same for all:
// which of its templates serves a codec and a number of heads.
//
// Include it after a form's own templates, with the form's target switched on
// (see kernels/avx512_bf16-inl.h); they are
//   RoundGroup<kBits>(q, n, to): channels [0, n) of a group of queries next to
//     keys of so many bits,
//   ScoreKeys<kBits, kHeads>(k, q, scores), and
//   AddValues<kBits, kHeads>(v, p, sums, acc_stride, acc).
// All here has internal linkage.

#ifndef PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_INL_H_
#define PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_INL_H_

namespace pyramidkv {
namespace {

template <int kBits>
void RoundQueriesOf(const float* q, int heads, int head_dim, IntegerQuery* to) {
  for (int h = 0; h < heads; ++h, q += head_dim) {
    for (int c = 0; c < head_dim; c += kQuantGroup, ++to) {
      const int left = head_dim - c;
      RoundGroup<kBits>(q + c, left < kQuantGroup ? left : kQuantGroup, to);
    }
  }
}

void RoundQueries(Codec k, const float* q, int heads, int head_dim,
                  IntegerQuery* to) {
  switch (k) {
    case Codec::kInt8:
      return RoundQueriesOf<8>(q, heads, head_dim, to);
    case Codec::kInt4:
      return RoundQueriesOf<4>(q, heads, head_dim, to);
    case Codec::kInt2:
    case Codec::kF32:
    case Codec::kF16:
    case Codec::kBf16:
      DCHECK(false);  // not of quantised keys
  }
}

template <int kHeads>
void ScoreHeads(const IntegerHalf& k, const IntegerQuery* q, float* scores) {
  switch (k.codec) {
    case Codec::kInt8:
      return ScoreKeys<8, kHeads>(k, q, scores);
    case Codec::kInt4:
      return ScoreKeys<4, kHeads>(k, q, scores);
    case Codec::kInt2:
    case Codec::kF32:
    case Codec::kF16:
    case Codec::kBf16:
      DCHECK(false);  // not of quantised keys
  }
}

void Score(const IntegerHalf& k, const IntegerQuery* q, int heads,
           float* scores) {
  if (heads == kSharingHeads) return ScoreHeads<kSharingHeads>(k, q, scores);
  ScoreHeads<1>(k, q, scores);
}

template <int kHeads>
void AddHeads(const IntegerHalf& v, const float* p, const float* sums,
              size_t acc_stride, float* acc) {
  switch (v.codec) {
    case Codec::kInt8:
      return AddValues<8, kHeads>(v, p, sums, acc_stride, acc);
    case Codec::kInt4:
      return AddValues<4, kHeads>(v, p, sums, acc_stride, acc);
    case Codec::kInt2:
      return AddValues<2, kHeads>(v, p, sums, acc_stride, acc);
    case Codec::kF32:
    case Codec::kF16:
    case Codec::kBf16:
      DCHECK(false);  // not quantised
  }
}

void Add(const IntegerHalf& v, const float* p, const float* sums, int heads,
         size_t acc_stride, float* acc) {
  if (heads == kSharingHeads) {
    return AddHeads<kSharingHeads>(v, p, sums, acc_stride, acc);
  }
  AddHeads<1>(v, p, sums, acc_stride, acc);
}

}  // namespace
}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_ATTENTION_DECODE_INT8_INL_H_
