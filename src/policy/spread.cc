#include "policy/spread.h"

#include <algorithm>

#include "base/check.h"
#include "policy/top_cut.h"

namespace pyramidkv {

// Spans double: after a step of d, out[j] covers 2 d entries. So each spread
// takes log2 passes, and every pass vectorises.
void SpreadForward(int spread, std::span<const float> score,
                   std::span<float> out) {
  DCHECK(spread >= 0 && score.size() == out.size());
  const int n = static_cast<int>(score.size());
  std::transform(score.begin(), score.end(), out.begin(), Rankable);
  spread = std::min(spread, n);
  for (int covered = 1; covered <= spread;) {
    const int step = std::min(covered, spread + 1 - covered);
    // From the end, so that what is read is still of the pass before.
    for (int j = n - 1; j >= step; --j)
      out[j] = std::max(out[j], out[j - step]);
    covered += step;
  }
}

}  // namespace pyramidkv
