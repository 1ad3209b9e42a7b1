// K and V of one KV head while prompt rows attend to them: past entries,
// decoded, and then the fresh rows of the pass. They are held as the CPU
// multiplies them fastest, and in f32 as far as somebody scores or stores
// them; nobody but this file knows which form that is.
//
// The f16 row is held in place of f32 where fresh values reach the cache as
// f16 and nobody scores them.
//
// Bytes: entries * head_dim * (4 for K, 4 for V in f32 or 2 of fresh values,
// 4 for both in a form of 16 bits).
//
// Thread safety: different entries may be set in parallel. No errors;
// preconditions are stated.

#ifndef PYRAMIDKV_KERNELS_PROMPT_KEYS_H_
#define PYRAMIDKV_KERNELS_PROMPT_KEYS_H_

#include <cstddef>
#include <cstdint>

#include "base/aligned_buffer.h"
#include "kernels/attention_form.h"
#include "kernels/attention_prefill.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

class PromptKeys {
 public:
  struct Options {
    AttentionForm form = AttentionForm::kF32;
    int head_dim = 0;        // multiple of 8
    bool past_keys = true;   // in f32, too: somebody scores them
    bool f32_values = true;  // somebody scores values, or stores them finer
  };
  // The memory of earlier passes is used again.
  void Configure(const Options& options);

  // Room for `past` entries and `fresh` rows after them. most: bound on the
  // entries of later calls, so that they find room.
  void Begin(int past, int fresh, int64_t most);

  // Past entries [first, first + count); k, v [count, head_dim].
  void SetPast(int first, int count, const float* k, const float* v);
  // The same of the first `count` entries of a page. key_rounding: of
  // kernels/key_rounding.h, or null. scratch: of the calling thread.
  void SetPastPage(int first, int count, const PageFormat& format,
                   const std::byte* page, const float* key_rounding,
                   AlignedBuffer<float>* scratch);
  // The same of the past entries [0, count), which the caller has written to
  // k() and v() itself. REQUIRES: f32_values.
  void RoundPast(int count);
  // Fresh row `row`; k, v [head_dim].
  void AddFresh(int row, const float* k, const float* v);
  // Attention may read values in pairs, also where the second one is not there
  // yet: it is multiplied by zero, so it must be a number. After each wave of
  // rows; rows: fresh ones up to now.
  void Close(int rows);

  // Attention of a tile's rows, whose entries count from the first past one.
  // REQUIRES: scratch sized for the tile; Close.
  void Attend(const PrefillTile& tile, PrefillScratch* scratch) const;

  // [past + fresh, head_dim]. Past keys are there if they were asked for.
  float* k() { return k_.data(); }
  const float* k() const { return k_.data(); }
  float* v() { return v_.data(); }
  const float* v() const {  // null: see fresh_v16
    return holds_values() ? v_.data() : nullptr;
  }
  // [fresh, head_dim] f16, or null.
  const uint16_t* fresh_v16() const {
    return holds_values() ? nullptr : half_v_.data();
  }

 private:
  bool is_f32() const { return options_.form == AttentionForm::kF32; }
  bool holds_values() const { return options_.f32_values || is_f32(); }
  bool holds_past_keys() const { return options_.past_keys || is_f32(); }
  size_t at(int entry) const { return size_t(entry) * options_.head_dim; }
  // Stores the entries from `first` on as attention reads them.
  void Round(int first, int count, const float* k, const float* v);

  Options options_;
  int past_ = 0;
  AlignedBuffer<float> k_, v_;
  // bf16, or int16 with the scales of entries; of values in pairs.
  AlignedBuffer<uint16_t> k16_, v16_;
  AlignedBuffer<float> k_scale_, v_scale_;
  AlignedBuffer<uint16_t> half_v_;  // f16
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_KERNELS_PROMPT_KEYS_H_
