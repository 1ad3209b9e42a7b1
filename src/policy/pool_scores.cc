#include "policy/pool_scores.h"

#include "policy/select.h"
#include "policy/spread.h"

namespace pyramidkv {

std::vector<float> PoolScores(const CacheSpec& spec, std::span<const float> raw,
                              int budget) {
  const auto n = static_cast<int>(raw.size());
  const int past = n - ProtectedEntries(spec, n, budget).recent;
  std::vector<float> pooled(n, 0.0f);
  Pool1d(spec.score.pool, spec.score.kernel, raw.first(past),
         std::span<float>(pooled).first(past));
  if (spec.score.spread == 0) return pooled;
  std::vector<float> spread(n, 0.0f);
  SpreadForward(spec.score.spread, std::span<const float>(pooled).first(past),
                std::span<float>(spread).first(past));
  return spread;
}

}  // namespace pyramidkv
