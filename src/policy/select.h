// Which entries of a head stay: pooling, and the choice by score.

#ifndef PYRAMIDKV_POLICY_SELECT_H_
#define PYRAMIDKV_POLICY_SELECT_H_

#include <span>
#include <vector>

#include "policy/spec.h"

namespace pyramidkv {

// Entries of a head of `length` that are kept whatever their score, with a
// budget of `budget`: the first `sinks` and the last `recent`.
struct Protected {
  int sinks = 0;
  int recent = 0;
};
Protected ProtectedEntries(const CacheSpec& spec, int length, int budget);

// 1-D pooling with stride 1 and kernel / 2 padding on both sides. Average:
// zeros pad and the divisor is always `kernel`; max: minus infinity pads.
// Chunk: instead the mean of each run of `kernel` entries (ChunkKV, arXiv
// 2502.00299, section 3).
// in, out: [n], not overlapping. REQUIRES: kernel odd, but for chunks.
// Source: SnapKV (arXiv 2404.14469), section 4; PyTorch's avg_pool1d.
void Pool1d(PoolKind kind, int kernel, std::span<const float> in,
            std::span<float> out);

// Indices to keep, ascending, min(budget, length) of them: the protected
// ones, then the best of the rest by (score descending, index ascending).
// scores: [length], already pooled; those of protected entries are ignored;
// NaN ranks lowest. With select=recent scores may be empty.
std::vector<int> SelectKept(const CacheSpec& spec,
                            std::span<const float> scores, int length,
                            int budget);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SELECT_H_
