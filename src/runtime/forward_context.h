// Shared by every forward pass of one engine.

#ifndef PYRAMIDKV_RUNTIME_FORWARD_CONTEXT_H_
#define PYRAMIDKV_RUNTIME_FORWARD_CONTEXT_H_

#include <vector>

#include "base/thread_pool.h"
#include "kernels/attention_form.h"
#include "kernels/matmul_prompt.h"
#include "model/model.h"

namespace pyramidkv {

// One layer's weights, expanded for prompt rows. Passes that take turns pack
// again what another one has replaced.
struct PackedLayer {
  int layer = -1;  // which one is packed
  PackedMatrix q, k, v, output, gate, up, down;
};

struct ForwardContext {
  const Model* model = nullptr;
  ThreadPool* pool = nullptr;
  PromptMatMul* prompt_matmul = nullptr;
  PackedLayer* packed = nullptr;
  bool any_tile_rows = false;  // prompt tiles may be smaller than kPromptTile
  bool exact = false;          // --compute f32: nothing is quantised
  AttentionForm attention = ChooseAttentionForm(/*exact=*/true);
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_FORWARD_CONTEXT_H_
