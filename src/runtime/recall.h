// Generated rows and the cold tiers of their sequences: which blocks a layer
// will need is guessed from the hidden state before that layer is reached, so
// that reading them and computing what lies between go on at the same time.
//
// Source: InfiniGen (arXiv 2406.19707), section 4.3. Departures: the guess is
// made after the attention of the layer before, not before it - nearer to the
// truth, and the feed-forward part, most of a layer, still hides the reading -
// and uses the next layer's own norm and all columns of its weights.

#ifndef PYRAMIDKV_RUNTIME_RECALL_H_
#define PYRAMIDKV_RUNTIME_RECALL_H_

#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "runtime/block.h"
#include "runtime/block_rows.h"
#include "runtime/forward_context.h"
#include "runtime/layer_ops.h"
#include "runtime/sequence.h"

namespace pyramidkv {

class Recall {
 public:
  explicit Recall(const ForwardContext& context);

  // Rows [rows.size()] of one pass, one per sequence that has a cold tier.
  // hidden: [rows, embedding], as far as it is known; exact where it is the
  // layer's input. rotations: by row, of the pass.
  void Select(int layer, std::span<Sequence* const> rows, const float* hidden,
              const RowRotations& rotations);

 private:
  ForwardContext context_;
  std::vector<int> rows_;   // those that have a cold tier with entries
  AlignedBuffer<float> q_;  // [rows_.size(), heads * head_dim]
  GeneratedRows block_rows_;
  BlockScratch scratch_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_RECALL_H_
