#include "policy/chunk_scores.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "policy/top_cut.h"

namespace pyramidkv {

void ChunkScores(int length, std::span<std::vector<float>> scores) {
  DCHECK(length > 0);
  const int n = scores.empty() ? 0 : static_cast<int>(scores[0].size());
  for (int first = 0; first < n; first += length) {
    const int last = n - first < length ? n : first + length;
    double sum = 0;
    for (const std::vector<float>& head : scores) {
      DCHECK(static_cast<int>(head.size()) == n);
      for (int j = first; j < last; ++j) sum += Rankable(head[j]);
    }
    // Infinities of both signs may have met.
    const float mean = Rankable(static_cast<float>(sum / (last - first)));
    for (std::vector<float>& head : scores) {
      std::fill(head.begin() + first, head.begin() + last, mean);
    }
  }
}

}  // namespace pyramidkv
