// remainder=cluster: the entries of a head that are not kept become a few
// merged ones (policy/merge.h), ready for the cache.

#ifndef PYRAMIDKV_RUNTIME_MERGE_ENTRIES_H_
#define PYRAMIDKV_RUNTIME_MERGE_ENTRIES_H_

#include <span>
#include <vector>

#include "cache/kv_cache.h"
#include "policy/merge.h"
#include "policy/spec.h"
#include "runtime/layer_entries.h"

namespace pyramidkv {

struct MergeRequest {
  MergeRule rule = MergeRule::kMean;
  Rotation rope;
  int rope_shift = 0;  // fresh entries are rotated for position - rope_shift
  int clusters = 0;
  int from = 0;  // entries before it are gone, not merged
  int head_dim = 0;
  // [n] attention that entries received, not pooled; or empty.
  std::span<const float> attention;
  std::span<const float> gathered;  // [n], or empty
};

struct MergedRows {
  std::vector<MergedEntries> rows;   // of each stretch
  std::vector<MergedEntry> entries;  // point into rows
};

// Stretches of some hundred entries are merged apart, each into its share of
// the clusters: the cost is then linear in the length of the prompt.
// view: the head as it is in the cache, before anything of this layer is
// stored. kept: ascending indices into past and fresh entries.
MergedRows MergeUnkept(const MergeRequest& request, const LayerEntries& e,
                       int head, const HeadView& view,
                       std::span<const int> kept);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_MERGE_ENTRIES_H_
