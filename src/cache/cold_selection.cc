#include "cache/cold_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace pyramidkv {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Distance of each block to its query head's best, of the nearest such head:
// [full], 0 or less. A NaN is no estimate.
std::vector<float> Distances(const BlockEstimates& e, int full) {
  std::vector<float> distance(full, kLowest);
  for (int g = 0; g < e.group; ++g) {
    const float* const best = e.best + static_cast<size_t>(g) * e.blocks;
    float top = kLowest;
    for (int b = 0; b < e.blocks; ++b) top = best[b] > top ? best[b] : top;
    for (int b = 0; b < full; ++b) {
      const float d = best[b] - top;
      distance[b] = d > distance[b] ? d : distance[b];
    }
  }
  return distance;
}

// Each block's share of the attention, in the sum over the query heads, if its
// best entry spoke for it: [full].
std::vector<float> Shares(const BlockEstimates& e, int full) {
  std::vector<float> share(full, 0.0f), weight(full);
  for (int g = 0; g < e.group; ++g) {
    const float* const best = e.best + static_cast<size_t>(g) * e.blocks;
    float top = kLowest;
    for (int b = 0; b < e.blocks; ++b) top = best[b] > top ? best[b] : top;
    float sum = 0;
    for (int b = 0; b < full; ++b) {
      weight[b] = best[b] <= top ? std::exp((best[b] - top) * e.scale) : 0.0f;
      sum += weight[b];
    }
    if (!(sum > 0)) continue;
    for (int b = 0; b < full; ++b) share[b] += weight[b] / sum;
  }
  return share;
}

}  // namespace

int MostBlocks(double fetch, int full) {
  // 0.29 * 100 must be 29.
  const double most = fetch * full * (1 + 1e-12);
  if (most >= full) return full;
  return std::min(full, std::max(1, static_cast<int>(most)));
}

void ChooseBlocks(const BlockEstimates& estimates, int full,
                  const SelectionLimits& limits, std::vector<int32_t>* chosen) {
  DCHECK(full <= estimates.blocks && estimates.scale > 0);
  const std::vector<float> distance = Distances(estimates, full);
  chosen->clear();
  for (int b = 0; b < full; ++b) {
    const double logits = double{distance[b]} * estimates.scale;
    if (logits >= -limits.alpha) chosen->push_back(b);
  }
  const size_t most = MostBlocks(limits.fetch, full);
  if (chosen->size() <= most) return;
  const std::vector<float> share = Shares(estimates, full);
  const auto nearer = [&](int32_t a, int32_t b) {
    return share[a] != share[b] ? share[a] > share[b] : a < b;
  };
  std::nth_element(chosen->begin(), chosen->begin() + most, chosen->end(),
                   nearer);
  chosen->resize(most);
  std::sort(chosen->begin(), chosen->end());
}

}  // namespace pyramidkv
