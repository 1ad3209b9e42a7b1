// One layer's budget, spent over its KV heads by score: heads whose attention
// is spread out get more entries than those that look at a few.
//
// Source: AdaKV (arXiv 2407.11550), algorithm 1, in the form of NVIDIA kvpress
// (adakv_press.py): a floor per head first, the rest to the best entries of
// the layer. Departures: protected entries belong to the floor; the sum is
// exact (the authors' code rounds count * (1 - floor) + floor * base per head
// and misses it by a few); policy/global_split.h does the same over layers.

#ifndef PYRAMIDKV_POLICY_HEAD_SPLIT_H_
#define PYRAMIDKV_POLICY_HEAD_SPLIT_H_

#include <cstdint>
#include <span>
#include <vector>

namespace pyramidkv {

struct HeadSplitOptions {
  int sinks = 0;   // first entries of a head that stay in any case
  int recent = 0;  // last entries, likewise
  // Share of `base` that every head gets, its protected entries included.
  double floor = 0.2;
};

// Entries [kv_heads] for heads with `scores` [n[h]]: the sum is exactly
// min(total, sum of n). With base = total / heads every head gets at least
// min(n[h], max(sinks + recent + 1, floor * base)) or, if that is more
// than base, min(n[h], base); and n[h] at most. The rest goes to the best
// entries of all heads that are neither protected nor part of that. Ties go
// to the lower head first, then to the lower index; NaN ranks lowest.
std::vector<int> SplitHeads(std::span<const std::vector<float>> scores,
                            int64_t total, const HeadSplitOptions& options);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_HEAD_SPLIT_H_
