#include "policy/select.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "policy/top_cut.h"

namespace pyramidkv {

Protected ProtectedEntries(const CacheSpec& spec, int length, int budget) {
  budget = std::min(budget, length);
  Protected p;
  if (spec.score.select == SelectKind::kRecent) {
    // At least one recent entry, however many sinks were asked for.
    p.sinks = std::min(spec.score.sinks, std::max(0, budget - 1));
    p.recent = budget - p.sinks;
    return p;
  }
  p.recent = spec.score.recent == kRecentHalf
                 ? budget / 2
                 : std::min(spec.score.recent, budget);
  p.recent = std::max(p.recent, std::min(spec.score.grace, budget));
  p.sinks = std::min(spec.score.sinks, budget - p.recent);
  return p;
}

namespace {

void AddShifted(std::span<const float> in, int shift, std::span<float> out) {
  const int n = static_cast<int>(in.size());
  for (int i = std::max(0, -shift); i < std::min(n, n - shift); ++i) {
    out[i] += in[i + shift];
  }
}

void MaxShifted(std::span<const float> in, int shift, std::span<float> out) {
  const int n = static_cast<int>(in.size());
  for (int i = std::max(0, -shift); i < std::min(n, n - shift); ++i) {
    out[i] = std::max(out[i], in[i + shift]);
  }
}

}  // namespace

// The mean of each chunk of `kernel` entries, for all of its entries; a
// shorter last chunk has its own mean.
static void PoolChunks(int kernel, std::span<const float> in,
                       std::span<float> out) {
  for (size_t first = 0; first < in.size(); first += kernel) {
    const size_t end = std::min(first + kernel, in.size());
    float sum = 0;
    for (size_t i = first; i < end; ++i) sum += in[i];
    std::fill(out.begin() + first, out.begin() + end, sum / (end - first));
  }
}

// Kernel outside, entries inside: the inner loops vectorise, and each output
// is still summed in the order of its inputs.
void Pool1d(PoolKind kind, int kernel, std::span<const float> in,
            std::span<float> out) {
  DCHECK(in.size() == out.size());
  if (kind == PoolKind::kChunk) return PoolChunks(kernel, in, out);
  DCHECK(kernel % 2 == 1);
  const bool is_max = kind == PoolKind::kMax;
  std::fill(out.begin(), out.end(),
            is_max ? -std::numeric_limits<float>::infinity() : 0.0f);
  for (int shift = -(kernel / 2); shift <= kernel / 2; ++shift) {
    if (is_max) {
      MaxShifted(in, shift, out);
    } else {
      AddShifted(in, shift, out);
    }
  }
  if (is_max) return;
  for (float& x : out) x /= static_cast<float>(kernel);
}

std::vector<int> SelectKept(const CacheSpec& spec,
                            std::span<const float> scores, int length,
                            int budget) {
  budget = std::min(budget, length);
  std::vector<int> kept(budget);
  if (budget == length) {
    std::iota(kept.begin(), kept.end(), 0);
    return kept;
  }
  const Protected p = ProtectedEntries(spec, length, budget);
  const int chosen = budget - p.sinks - p.recent;
  const int end = length - p.recent;
  int next = 0;
  for (int i = 0; i < p.sinks; ++i) kept[next++] = i;
  if (chosen > 0) {
    DCHECK(static_cast<int>(scores.size()) == length);
    std::vector<float> ranked(end - p.sinks);
    std::transform(scores.begin() + p.sinks, scores.begin() + end,
                   ranked.begin(), Rankable);
    TopCut cut(&ranked, chosen);
    for (int i = p.sinks; i < end; ++i) {
      if (cut.Keep(Rankable(scores[i]))) kept[next++] = i;
    }
  }
  for (int i = end; i < length; ++i) kept[next++] = i;
  DCHECK(next == budget);
  return kept;
}

}  // namespace pyramidkv
