#include "runtime/fit_rounding.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/key_rounding.h"
#include "runtime/first_error.h"

namespace pyramidkv {
namespace {

// A head's keys, then its fresh ones.
std::vector<float> AllKeys(const LayerEntries& e, int h, const KvCache& cache) {
  const size_t d = cache.shape().format.head_dim;
  const size_t held = cache.length(e.layer, h);
  std::vector<float> keys((held + e.fresh) * d);
  cache.Decode(e.layer, h, keys.data(), nullptr);
  const float* const fresh = e.k[h] + e.past[h] * d;
  std::copy(fresh, fresh + e.fresh * d, keys.begin() + held * d);
  return keys;
}

bool Weighs(const LayerEntries& e) { return e.window_rows >= kRoundingQueries; }

// Whether a chunk finds a better rounding than the head has. One without
// weights gives way to a chunk that is longer than what was coded with it.
bool FitsAnew(const LayerEntries& e, const KvHead& head, int head_dim) {
  const auto rounding = head.key_rounding();
  if (rounding.empty()) return true;
  return Weighs(e) && (head.length() == 0 || (e.fresh >= head.length() &&
                                              !HasWeights(rounding, head_dim)));
}

}  // namespace

Status FitRounding(const LayerEntries& e, int group, KvCache* cache,
                   ThreadPool* pool) {
  const bool weighs = Weighs(e);
  if (!weighs && e.fresh_position + e.fresh < kFitTokens) return {};
  const int heads = cache->shape().kv_heads;
  const int d = cache->shape().format.head_dim;
  const size_t width = size_t(heads) * group * d;
  const float* const q =
      weighs ? e.window_q + size_t(e.window_rows - kRoundingQueries) * width
             : nullptr;
  std::vector<Status> status(heads);
  pool->ParallelFor(heads, [&](int h, int) {
    if (!FitsAnew(e, cache->head(e.layer, h), d)) return;
    const std::vector<float> keys = AllKeys(e, h, *cache);
    const int rows = static_cast<int>(keys.size()) / d;
    status[h] = cache->SetKeyRounding(
        e.layer, h,
        weighs ? FitKeyRounding(d, rows, keys.data(), kRoundingQueries, group,
                                width, q + size_t(h) * group * d)
               : FitKeyMeans(d, rows, keys.data()));
  });
  return FirstError(status);
}

Status FitDecodedRounding(int position, KvCache* cache, ThreadPool* pool) {
  if (position < kFitTokens) return {};
  // All heads are fitted together.
  if (!std::as_const(*cache).head(0, 0).key_rounding().empty()) return {};
  const int heads = cache->shape().kv_heads;
  const int d = cache->shape().format.head_dim;
  std::vector<Status> status(size_t(cache->shape().layers) * heads);
  pool->ParallelFor(static_cast<int>(status.size()), [&](int i, int) {
    const int layer = i / heads, h = i % heads;
    const int n = cache->length(layer, h);
    if (n == 0) return;
    std::vector<float> keys(size_t(n) * d);
    cache->Decode(layer, h, keys.data(), nullptr);
    status[i] = cache->SetKeyRounding(layer, h, FitKeyMeans(d, n, keys.data()));
  });
  return FirstError(status);
}

}  // namespace pyramidkv
