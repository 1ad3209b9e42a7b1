#include "runtime/fit_rounding.h"

#include <cstddef>

#include "kernels/key_rounding.h"

namespace pyramidkv {

void FitRounding(const LayerEntries& e, int group, KvCache* cache,
                 ThreadPool* pool) {
  if (e.window_rows < kRoundingQueries) return;
  const int heads = cache->shape().kv_heads;
  const int d = cache->shape().format.head_dim;
  const size_t width = size_t(heads) * group * d;
  const float* const q =
      e.window_q + size_t(e.window_rows - kRoundingQueries) * width;
  pool->ParallelFor(heads, [&](int h, int) {
    if (e.past[h] > 0 || cache->length(e.layer, h) > 0) return;
    cache->SetKeyRounding(
        e.layer, h,
        FitKeyRounding(d, e.fresh, e.k[h], kRoundingQueries, group, width,
                       q + size_t(h) * group * d));
  });
}

}  // namespace pyramidkv
