// Buffers that a Select needs for a moment: as many of them as run at the same
// time, instead of one for each head.
//
// Thread safety: all functions may be called from any thread.

#ifndef PYRAMIDKV_CACHE_COLD_SCRATCH_H_
#define PYRAMIDKV_CACHE_COLD_SCRATCH_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pyramidkv {

struct ColdScratch {
  std::vector<float> index;
  std::vector<float> best;  // [group, blocks]
};

class ColdScratchPool {
 public:
  std::unique_ptr<ColdScratch> Take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<ColdScratch>();
    std::unique_ptr<ColdScratch> scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }

  void Return(std::unique_ptr<ColdScratch> scratch) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  // Counts those not in use.
  int64_t bytes() const {
    std::lock_guard lock(mutex_);
    size_t floats = 0;
    for (const auto& scratch : free_) {
      floats += scratch->index.capacity() + scratch->best.capacity();
    }
    return static_cast<int64_t>(floats * sizeof(float));
  }

 private:
  mutable std::mutex mutex_;  // guards free_
  std::vector<std::unique_ptr<ColdScratch>> free_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_SCRATCH_H_
