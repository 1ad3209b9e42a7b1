// How quantised entries of a KvHead are rounded alike: the mean and weights of
// its keys, and one scale for all of them. They are found on the first tokens;
// where these were few, entries get new codes once there are more.

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cache/kv_head.h"
#include "kernels/key_rounding.h"
#include "kernels/kv_quant.h"

namespace pyramidkv {

// Gives all entries new codes where these differ from what they are rounded by,
// from where they are read. REQUIRES: no keys by channel.
Status KvHead::Recode(std::vector<float> key_rounding,
                      std::array<float, 2> scales) {
  if (!base_.MakeOwn() || !top_.mutable_run()->MakeOwn()) return OutOfMemory();
  const HeadSegments segments = Segments();
  // The segments read with the old rounding until the last entry is stored.
  std::swap(key_rounding_, key_rounding);
  std::swap(tensor_scales_, scales);
  const bool anew = key_rounding_ != key_rounding;
  std::vector<float> k(format_.head_dim), v(format_.head_dim);
  float* const to_k =
      anew || tensor_scales_[0] != scales[0] ? k.data() : nullptr;
  float* const to_v = tensor_scales_[1] != scales[1] ? v.data() : nullptr;
  for (int i = 0; i < length(); ++i) {
    segments.Load(i, to_k, to_v);
    base_.Store(i, to_k, to_v, rounding());
    if (anew && top_rounding().keys != nullptr) {
      top_.Store(i, to_k, nullptr, top_rounding());
    }
  }
  return {};
}

Status KvHead::SetKeyRounding(std::vector<float> key_rounding) {
  DCHECK(IsQuantized(format_.k) && !format_.channel);
  DCHECK(IsKeyRounding(key_rounding, format_.head_dim));
  std::array<float, 2> scales = tensor_scales_;
  if (scales[0] > 0 && length() > 0) {
    std::vector<float> k(size_t(length()) * format_.head_dim);
    Decode(k.data(), nullptr);
    scales[0] = LargestScale(format_.k, format_.head_dim, k.data(), length(),
                             format_.head_dim, key_rounding.data());
  }
  return Recode(std::move(key_rounding), scales);
}

bool KvHead::scales_grow() const {
  if (!format_.tensor_scales) return false;
  return length() == 0 || seen_ < kFitTokens ||
         (!key_rounding_.empty() &&
          !HasWeights(key_rounding_, format_.head_dim));
}

// rows: about to be appended.
Status KvHead::FitTensorScales(const EntryRows& rows) {
  if (!scales_grow()) return {};
  const int seen = rows[rows.count - 1] + 1;  // kept or not
  const auto fit = [&](Codec codec, const float* x, const float* mean) {
    return IsQuantized(codec) ? LargestScale(codec, format_.head_dim, x, seen,
                                             rows.stride, mean)
                              : 0.0f;
  };
  std::array<float, 2> scales = {fit(format_.k, rows.k, rounding_of_keys()),
                                 fit(format_.v, rows.v, nullptr)};
  if (length() == 0) {
    tensor_scales_ = scales;
    return {};
  }
  for (int i = 0; i < 2; ++i)
    scales[i] = std::max(scales[i], tensor_scales_[i]);
  if (scales == tensor_scales_) return {};
  return Recode(key_rounding_, scales);
}

}  // namespace pyramidkv
