#include "kernels/prompt_keys.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/elementwise.h"
#include "kernels/int16_rows.h"
#include "kernels/key_rounding.h"
#include "kernels/page_rows.h"

namespace pyramidkv {
namespace {

// Room beyond what is needed now. Memory that nobody touches costs nothing,
// but buffers that grew with each chunk of a prompt would be touched for the
// first time again.
constexpr int64_t kAhead = 4;

template <typename T>
void Grow(int64_t needed, int64_t most, size_t width, AlignedBuffer<T>* to) {
  if (to->size() >= needed * width) return;
  to->Resize(std::max(needed, std::min(most, kAhead * needed)) * width);
}

int16_t* Integers(uint16_t* p) { return reinterpret_cast<int16_t*>(p); }
const int16_t* Integers(const uint16_t* p) {
  return reinterpret_cast<const int16_t*>(p);
}

}  // namespace

void PromptKeys::Configure(const Options& options) {
  options_ = options;
  past_ = 0;
}

void PromptKeys::Begin(int past, int fresh, int64_t most) {
  past_ = past;
  const int64_t entries = int64_t{past} + fresh;
  const size_t d = options_.head_dim;
  Grow(entries, most, d, &k_);
  if (holds_values()) {
    Grow(entries, most, d, &v_);
  } else {
    Grow(fresh, fresh, d, &half_v_);
  }
  if (is_f32()) return;
  Grow(entries, most, d, &k16_);
  Grow((entries + 1) / 2, (most + 1) / 2, 2 * d, &v16_);
  if (options_.form != AttentionForm::kInt16) return;
  Grow(entries, most, 1, &k_scale_);
  Grow(entries, most, 1, &v_scale_);
}

void PromptKeys::Round(int first, int count, const float* k, const float* v) {
  const int d = options_.head_dim;
  switch (options_.form) {
    case AttentionForm::kF32:
      return;
    case AttentionForm::kBf16:
      ToBf16(k, size_t(count) * d, k16_.data() + at(first));
      for (int i = 0; i < count; ++i) {
        StoreValueRow(v + at(i), d, first + i, v16_.data());
      }
      return;
    case AttentionForm::kInt16:
      for (int i = 0; i < count; ++i) {
        const int entry = first + i;
        k_scale_[entry] =
            ToInt16Row(k + at(i), d, Integers(k16_.data() + at(entry)));
        v_scale_[entry] =
            StoreInt16Values(v + at(i), d, entry, Integers(v16_.data()));
      }
      return;
  }
}

void PromptKeys::SetPast(int first, int count, const float* k, const float* v) {
  if (holds_past_keys()) std::copy(k, k + at(count), k_.data() + at(first));
  if (holds_values()) std::copy(v, v + at(count), v_.data() + at(first));
  Round(first, count, k, v);
}

void PromptKeys::SetPastPage(int first, int count, const PageFormat& format,
                             const std::byte* page, const float* key_rounding,
                             AlignedBuffer<float>* scratch) {
  PageRows to;
  if (holds_past_keys()) to.k = k_.data() + at(first);
  if (holds_values()) to.v = v_.data() + at(first);
  // Pages begin with a pair of entries; after an odd number of others they do
  // not.
  const bool straight = options_.form == AttentionForm::kBf16 &&
                        first % 2 == 0 && key_rounding == nullptr;
  if (straight) {
    to.k16 = k16_.data() + at(first);
    to.v16 = v16_.data() + at(first);
  } else if (!is_f32()) {
    scratch->Resize(2 * at(kPageEntries));
    if (to.k == nullptr) to.k = scratch->data();
    if (to.v == nullptr) to.v = scratch->data() + at(kPageEntries);
  }
  LoadPage(format, page, count, to);
  if (key_rounding != nullptr && to.k != nullptr) {
    AddKeyMean(key_rounding, options_.head_dim, count, to.k);
  }
  if (!straight) Round(first, count, to.k, to.v);
}

void PromptKeys::RoundPast(int count) {
  DCHECK(options_.f32_values);
  Round(0, count, k_.data(), v_.data());
}

void PromptKeys::AddFresh(int row, const float* k, const float* v) {
  const int d = options_.head_dim, entry = past_ + row;
  std::copy(k, k + d, k_.data() + at(entry));
  if (holds_values()) {
    std::copy(v, v + d, v_.data() + at(entry));
  } else {
    ToF16(v, d, half_v_.data() + at(row));
  }
  Round(entry, 1, k, v);
}

void PromptKeys::Close(int rows) {
  const int end = past_ + rows;
  if (is_f32() || end % 2 == 0) return;
  uint16_t* const half = v16_.data() + at(end - 1) + 1;
  for (int c = 0; c < options_.head_dim; ++c) half[2 * c] = 0;
}

void PromptKeys::Attend(const PrefillTile& tile,
                        PrefillScratch* scratch) const {
  switch (options_.form) {
    case AttentionForm::kF32:
      return AttendPrefill(tile, k_.data(), v_.data(), scratch);
    case AttentionForm::kBf16:
      return AttendPrefillBf16(tile, k16_.data(), v16_.data(), scratch);
    case AttentionForm::kInt16:
      return AttendPrefillInt16(tile,
                                {Integers(k16_.data()), k_scale_.data(),
                                 Integers(v16_.data()), v_scale_.data()},
                                scratch);
  }
}

}  // namespace pyramidkv
