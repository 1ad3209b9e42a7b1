#include "cache/cold_store.h"

#include <utility>

#include "base/check.h"
#include "cache/cold_head.h"

namespace pyramidkv {
namespace {

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

class ColdStore : public ColdTier {
 public:
  ColdStore(const ColdTierOptions& options, IndexFactory factory)
      : factory_(std::move(factory)) {
    shared_.options = options;
    shared_.block_bytes = RoundUp(options.format.page_bytes(), 64);
    MakeHeads();
  }

  Status Append(int layer, int head, int count, const float* k, const float* v,
                size_t stride, const int32_t* positions) override {
    return At(layer, head).Append(count, k, v, stride, positions);
  }
  Status Settle() override { return {}; }
  int length(int layer, int head) const override {
    return At(layer, head).length();
  }
  std::span<const int32_t> positions(int layer, int head) const override {
    return At(layer, head).positions();
  }
  void Select(int layer, int head, const float* q, int group,
              float scale) override {
    At(layer, head).Select(q, group, scale);
  }
  Status Fetch(int layer, int head, ColdView* view) override {
    return At(layer, head).Fetch(view);
  }
  Status Decode(int layer, int head, float* k, float* v) const override {
    return At(layer, head).Decode(k, v);
  }
  void Clear() override {
    for (const auto& head : heads_) head->AddStats(&past_);
    heads_.clear();
    MakeHeads();
  }

  int64_t bytes() const override {
    int64_t sum = shared_.pages.mapped_bytes() + shared_.scratch.bytes();
    for (const auto& head : heads_) sum += head->bytes();
    return sum + index_bytes();
  }
  int64_t index_bytes() const override {
    int64_t sum = 0;
    for (const auto& head : heads_) sum += head->index_bytes();
    return sum;
  }
  int64_t file_bytes() const override { return 0; }
  int64_t entries() const override {
    int64_t sum = 0;
    for (const auto& head : heads_) sum += head->length();
    return sum;
  }
  ColdTierStats stats() const override {
    ColdTierStats stats = past_;
    for (const auto& head : heads_) head->AddStats(&stats);
    return stats;
  }

 private:
  void MakeHeads() {
    for (int l = 0; l < shared_.options.layers; ++l) {
      for (int h = 0; h < shared_.options.kv_heads; ++h) {
        heads_.push_back(std::make_unique<ColdHead>(&shared_, factory_(l, h)));
      }
    }
  }

  ColdHead& At(int layer, int head) const {
    DCHECK(layer >= 0 && layer < shared_.options.layers);
    DCHECK(head >= 0 && head < shared_.options.kv_heads);
    return *heads_[size_t(layer) * shared_.options.kv_heads + head];
  }

  IndexFactory factory_;
  ColdShared shared_;
  std::vector<std::unique_ptr<ColdHead>> heads_;  // [layers, kv_heads]
  ColdTierStats past_;  // of heads that Clear took away
};

}  // namespace

Result<std::unique_ptr<ColdTier>> MakeColdStore(const ColdTierOptions& options,
                                                IndexFactory factory) {
  return std::unique_ptr<ColdTier>(
      std::make_unique<ColdStore>(options, std::move(factory)));
}

}  // namespace pyramidkv
