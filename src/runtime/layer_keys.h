// K and V of one layer while a prompt pass is in it: what a cold tier holds,
// what the cache holds of the past, both decoded, and then the rows of the
// pass (kernels/prompt_keys.h: one object for each KV head).
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
#include "kernels/prompt_keys.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

class LayerKeys {
 public:
  // The memory of earlier passes is used again.
  void Configure(const PromptKeys::Options& options, int kv_heads);

  // Decodes what the cache and the cold tier (or null) hold of a layer.
  // `fresh`: rows that may be added; `most`: bound on the entries of later
  // calls, so that they find room. Errors: of ColdTier::Decode.
  Status Begin(const KvCache& cache, const ColdTier* cold, int layer, int fresh,
               int64_t most, ThreadPool* pool);

  // k, v [kv_heads, head_dim] of fresh row `row`.
  void Add(int row, const float* k, const float* v);
  // After each wave of rows; `rows`: fresh ones up to now.
  void Close(int rows);

  const int* past() const { return past_.data(); }  // [kv_heads]
  int past(int head) const { return past_[head]; }
  int cold(int head) const { return cold_[head]; }
  // Entries in front of the fresh ones.
  int before(int head) const { return cold_[head] + past_[head]; }

  // [kv_heads], entries [cold + past + fresh].
  std::span<const PromptKeys> heads() const { return heads_; }
  const PromptKeys& head(int head) const { return heads_[head]; }

 private:
  struct Item {
    int head;
    int page;
  };
  Status LoadCold(const ColdTier& cold, int layer, int head);
  void LoadItem(const Item& item, const HeadView& view,
                const PageFormat& format, AlignedBuffer<float>* page);
  void LoadFiner(const KvHead& from, int head);

  int head_dim_ = 0;
  std::vector<int> cold_, past_;  // [kv_heads]
  std::vector<PromptKeys> heads_;
  std::vector<Item> items_;
  std::vector<AlignedBuffer<float>> pages_;  // [threads] decoded ones
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LAYER_KEYS_H_
