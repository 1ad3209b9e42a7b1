// K and V of one layer while a prompt pass is in it: what a cold tier holds,
// what the cache holds of the past, both decoded, and then the rows of the
// pass.
//
// Attention reads the form that the CPU multiplies fastest; f32 is there for
// those who score and store. Of values that reach the cache as f16 and that
// nobody scores, the f16 form is held in place of f32.
//
// Thread safety: different rows may be added in parallel.

#ifndef PYRAMIDKV_RUNTIME_LAYER_KEYS_H_
#define PYRAMIDKV_RUNTIME_LAYER_KEYS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "cache/cold_tier.h"
#include "cache/kv_cache.h"
#include "kernels/attention_prefill.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

class LayerKeys {
 public:
  struct Options {
    AttentionForm form = AttentionForm::kF32;  // what attention reads
    bool past_keys = true;                     // in f32: somebody scores them
    bool f32_values = true;  // somebody scores values, or stores them finer
    int kv_heads = 0;
    int head_dim = 0;
  };
  // The memory of earlier passes is used again.
  void Configure(const Options& options);

  // Decodes what the cache and the cold tier (or null) hold of a layer.
  // `fresh`: rows that may be added; `most`: bound on the entries of later
  // calls, so that they find room. Errors: of ColdTier::Decode.
  Status Begin(const KvCache& cache, const ColdTier* cold, int layer, int fresh,
               int64_t most, ThreadPool* pool);

  // k, v [kv_heads, head_dim] of fresh row `row`.
  void Add(int row, const float* k, const float* v);
  // Attention reads values in pairs, also where the second one is not there
  // yet: it is multiplied by zero, so it must be a number. After each wave of
  // rows; `rows`: fresh ones up to now.
  void Close(int rows);

  const int* past() const { return past_.data(); }  // [kv_heads]
  int past(int head) const { return past_[head]; }
  int cold(int head) const { return cold_[head]; }
  // Entries in front of the fresh ones.
  int before(int head) const { return cold_[head] + past_[head]; }

  // [cold + past + fresh, head_dim]. Past ones are there if they were asked
  // for.
  std::span<const AlignedBuffer<float>> k() const { return k_; }
  const float* k(int head) const { return k_[head].data(); }
  const float* v(int head) const {  // null: see fresh_v16
    return options_.f32_values ? v_[head].data() : nullptr;
  }
  // [fresh, head_dim] f16, or null.
  const uint16_t* fresh_v16(int head) const {
    return options_.f32_values ? nullptr : half_v_[head].data();
  }
  // bf16, in the form of AttendPrefillBf16.
  const uint16_t* bf16_k(int head) const { return k16_[head].data(); }
  const uint16_t* bf16_v(int head) const { return v16_[head].data(); }
  // In the form of AttendPrefillInt16.
  Int16Entries int16(int head) const {
    return {reinterpret_cast<const int16_t*>(k16_[head].data()),
            k_scale_[head].data(),
            reinterpret_cast<const int16_t*>(v16_[head].data()),
            v_scale_[head].data()};
  }

 private:
  struct Item {
    int head;
    int page;
  };
  void Reserve(int head, int fresh, int64_t most);
  Status LoadCold(const ColdTier& cold, int layer, int head);
  void LoadItem(const Item& item, const HeadView& view,
                const PageFormat& format, AlignedBuffer<float>* page);
  void LoadFiner(const KvHead& from, int head);
  bool is_f32() const { return options_.form == AttentionForm::kF32; }
  bool is_bf16() const { return options_.form == AttentionForm::kBf16; }
  bool is_int16() const { return options_.form == AttentionForm::kInt16; }
  // k, v [count, head_dim] become what attention reads of the entries from
  // `first` on, in 16 bits.
  void StoreRows(int head, size_t first, int count, const float* k,
                 const float* v);

  Options options_;
  std::vector<int> cold_, past_;             // [kv_heads]
  std::vector<AlignedBuffer<float>> k_, v_;  // [kv_heads]
  // [kv_heads] bf16, or int16 with the scales of entries.
  std::vector<AlignedBuffer<uint16_t>> k16_, v16_;
  std::vector<AlignedBuffer<float>> k_scale_, v_scale_;
  std::vector<AlignedBuffer<uint16_t>> half_v_;  // [kv_heads] f16
  std::vector<Item> items_;
  std::vector<AlignedBuffer<float>> pages_;  // [threads] decoded ones
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LAYER_KEYS_H_
