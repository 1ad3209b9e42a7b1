#include "cache/cold_store.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "cache/cold_head.h"

namespace pyramidkv {
namespace {

class ColdStore : public ColdTier {
 public:
  static Result<std::unique_ptr<ColdTier>> Create(
      const ColdTierOptions& options, ColdStoreParts parts) {
    auto store = std::make_unique<ColdStore>();
    store->factory_ = std::move(parts.index);
    store->readers_ = parts.readers;
    ColdShared* const shared = &store->shared_;
    shared->pages = std::make_shared<PagePool>();
    DCHECK(options.format.entries == kBlockEntries);
    shared->options = options;
    shared->block_bytes = ColdBlockBytes(options.format);
    if (options.resident < 1) {
      PKV_RETURN_IF_ERROR(store->AddFile(std::move(parts.calls)));
    }
    store->MakeHeads();
    return std::unique_ptr<ColdTier>(std::move(store));
  }

  Status Append(int layer, int head, int count, const float* k, const float* v,
                size_t stride, const int32_t* positions) override {
    return At(layer, head).Append(count, k, v, stride, positions);
  }
  Status Settle() override {
    BlockFile* const file = shared_.own_file();
    return file == nullptr ? Status() : file->Settle();
  }
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
  ColdHeadState Export(int layer, int head) const override {
    return At(layer, head).Export();
  }
  Status ShowBlocks(int layer, int head, const ShowPage& show) const override {
    return At(layer, head).ShowBlocks(show);
  }
  Status Import(int layer, int head, int position, ColdHeadState state,
                const ReadPage& read_page) override {
    return At(layer, head).Import(position, std::move(state), read_page);
  }
  uint64_t index_basis() const override {
    const ColdTierOptions& o = shared_.options;
    if (o.index != IndexKind::kSkew || o.skew == nullptr) return 0;
    const size_t d = o.format.head_dim;
    return XXH3_64bits(o.skew, sizeof(float) * o.layers * o.kv_heads * d * d);
  }
  void Clear() override {
    for (const auto& head : heads_) head->AddStats(&past_);
    heads_.clear();
    if (!shared_.files.empty()) {
      shared_.files.erase(shared_.files.begin(), shared_.files.end() - 1);
      // Files that forks read stay.
      if (shared_.files[0].use_count() == 1) shared_.files[0]->Clear();
    }
    MakeHeads();
  }

  Result<std::unique_ptr<ColdTier>> Fork() override {
    auto fork = std::make_unique<ColdStore>();
    fork->factory_ = factory_;
    fork->readers_ = readers_;
    fork->shared_.options = shared_.options;
    fork->shared_.block_bytes = shared_.block_bytes;
    fork->shared_.pages = shared_.pages;
    if (!shared_.files.empty()) {
      fork->shared_.files = shared_.files;
      // Nothing was written to it: there is nothing to read.
      if (shared_.own_file()->bytes() == 0) fork->shared_.files.pop_back();
      PKV_RETURN_IF_ERROR(fork->AddFile(nullptr));
    }
    fork->MakeHeads();
    for (size_t h = 0; h < heads_.size(); ++h) {
      PKV_RETURN_IF_ERROR(heads_[h]->ForkInto(fork->heads_[h].get()));
    }
    return std::unique_ptr<ColdTier>(std::move(fork));
  }

  int64_t bytes() const override {
    int64_t sum = BlockBytesHeld() + shared_.scratch.bytes();
    for (const auto& head : heads_) sum += head->bytes();
    return sum + index_bytes();
  }
  int64_t index_bytes() const override {
    int64_t sum = 0;
    for (const auto& head : heads_) sum += head->index_bytes();
    return sum;
  }
  int64_t file_bytes() const override {
    int64_t sum = 0;
    for (const auto& file : shared_.files) sum += file->bytes();
    return sum;
  }
  int64_t entries() const override {
    int64_t sum = 0;
    for (const auto& head : heads_) sum += head->length();
    return sum;
  }
  ColdTierStats stats() const override {
    ColdTierStats stats = past_;
    for (const auto& head : heads_) head->AddStats(&stats);
    if (!shared_.files.empty()) {
      stats.written_bytes = shared_.own_file()->written_bytes();
      const FetchTimes times = shared_.queue->times();
      stats.read_seconds = times.read_seconds;
      stats.stall_seconds = times.stall_seconds;
    }
    return stats;
  }

 private:
  // Blocks that left gave back whole OS pages though their arena stays mapped;
  // one arena may be new and partly used.
  int64_t BlockBytesHeld() const {
    int64_t mapped = shared_.pages->mapped_bytes();
    int64_t live = shared_.pages->live_bytes();
    const auto block_bytes = static_cast<int64_t>(shared_.block_bytes);
    if (shared_.is_forked()) {  // what it reads, as if it were alone
      int64_t pages = 0;
      for (const auto& head : heads_) pages += head->pages();
      const int64_t arena = std::max<int64_t>(1, kArenaBytes / block_bytes);
      mapped = (pages + arena - 1) / arena * int64_t{kArenaBytes};
      live = pages * block_bytes;
    }
    if (block_bytes % 4096 != 0) return mapped;
    return std::min(mapped, live + int64_t{kArenaBytes});
  }

  // Its own, which it writes to from now on.
  Status AddFile(std::unique_ptr<FileCalls> calls) {
    PKV_ASSIGN_OR_RETURN(
        std::shared_ptr<BlockFile> file,
        BlockFile::Create(shared_.options.directory, shared_.block_bytes,
                          std::move(calls)));
    shared_.files.push_back(std::move(file));
    shared_.queue = std::make_unique<FetchQueue>(readers_);
    return {};
  }

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
  int readers_ = 0;
  ColdShared shared_;
  std::vector<std::unique_ptr<ColdHead>> heads_;  // [layers, kv_heads]
  ColdTierStats past_;  // of heads that Clear took away
};

}  // namespace

Result<std::unique_ptr<ColdTier>> MakeColdStore(const ColdTierOptions& options,
                                                ColdStoreParts parts) {
  return ColdStore::Create(options, std::move(parts));
}

}  // namespace pyramidkv
