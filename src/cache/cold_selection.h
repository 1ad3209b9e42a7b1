// Which blocks of a head are worth reading, from estimates of the logits.
//
// Source: InfiniGen (arXiv 2406.19707), section 4.3: what is within alpha of
// the best logit, up to a share. Departures: blocks instead of entries, and the
// union over the query heads of a group, each against its own maximum. Ranking
// by shares instead of distances takes a fifth off the divergence.
//
// No errors. Callable from any thread.

#ifndef PYRAMIDKV_CACHE_COLD_SELECTION_H_
#define PYRAMIDKV_CACHE_COLD_SELECTION_H_

#include <cstdint>
#include <vector>

namespace pyramidkv {

// Estimates of one head, as KeyIndex::Score leaves them.
struct BlockEstimates {
  const float* best = nullptr;  // [group, blocks]; of q.k without `scale`
  int group = 0;
  int blocks = 0;   // a last, partly filled one too
  float scale = 0;  // on q.k; > 0
};

struct SelectionLimits {
  double alpha = 0;  // logits below a query head's best
  double fetch = 0;  // share of the full blocks, but at least one block
};

// Blocks that `fetch` allows of `full` ones.
int MostBlocks(double fetch, int full);

// Sets `chosen` to some of the blocks [0, full), ascending: those within alpha
// for any query head and, if they are too many, those with the largest share of
// the attention, added up over the query heads, as far as their best entries
// tell; ties go to the lower index. A partly filled block is never among
// them, but its estimate counts for the best.
// REQUIRES: full <= blocks.
void ChooseBlocks(const BlockEstimates& estimates, int full,
                  const SelectionLimits& limits, std::vector<int32_t>* chosen);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_SELECTION_H_
