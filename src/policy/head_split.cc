#include "policy/head_split.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "policy/top_cut.h"

namespace pyramidkv {
namespace {

// How many entries a head is sure of. REQUIRES: base > 0.
int SureEntries(int n, int base, const HeadSplitOptions& options) {
  const int share = static_cast<int>(options.floor * base + 1e-9);
  const int64_t least = int64_t{options.sinks} + options.recent + 1;
  return static_cast<int>(
      std::min<int64_t>({n, base, std::max<int64_t>(share, least)}));
}

// The scores of the entries that are neither protected nor among the best
// sure - sinks - recent of the others.
std::vector<float> OpenScores(const std::vector<float>& scores, int sure,
                              const HeadSplitOptions& options) {
  const int n = static_cast<int>(scores.size());
  const int sinks = std::min(options.sinks, n);
  const int recent = std::min(options.recent, n - sinks);
  std::vector<float> open(n - sinks - recent);
  std::transform(scores.begin() + sinks, scores.end() - recent, open.begin(),
                 Rankable);
  std::vector<float> scratch = open;
  const int chosen = std::max(0, sure - sinks - recent);
  TopCut cut(&scratch, std::min<int64_t>(chosen, open.size()));
  std::erase_if(open, [&](float x) { return cut.Keep(x); });
  return open;
}

}  // namespace

std::vector<int> SplitHeads(std::span<const std::vector<float>> scores,
                            int64_t total, const HeadSplitOptions& options) {
  DCHECK(total >= 0 && options.sinks >= 0 && options.recent >= 0);
  DCHECK(options.floor >= 0 && options.floor <= 1);
  const int heads = static_cast<int>(scores.size());
  const int base = static_cast<int>(total / heads);
  std::vector<int> budget(heads);
  int64_t left = total;
  std::vector<std::vector<float>> open(heads);
  std::vector<float> flat;
  for (int h = 0; h < heads; ++h) {
    const int n = static_cast<int>(scores[h].size());
    budget[h] = SureEntries(n, base, options);
    left -= budget[h];
    open[h] = OpenScores(scores[h], budget[h], options);
    flat.insert(flat.end(), open[h].begin(), open[h].end());
  }
  TopCut cut(&flat, std::min<int64_t>(left, flat.size()));
  for (int h = 0; h < heads; ++h) {
    const auto won = std::count_if(open[h].begin(), open[h].end(),
                                   [&](float x) { return cut.Keep(x); });
    budget[h] += static_cast<int>(won);
    left -= won;
  }
  // Only if the budget does not even hold what is protected.
  for (int h = 0; h < heads && left > 0; ++h) {
    const int64_t room = static_cast<int64_t>(scores[h].size()) - budget[h];
    const int64_t more = std::min(left, room);
    budget[h] += static_cast<int>(more);
    left -= more;
  }
  return budget;
}

}  // namespace pyramidkv
