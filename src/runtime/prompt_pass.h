// Prompt rows through the model, layer by layer: exact prefill of a new
// sequence, or Extend of a compressed one.
//
// The whole prompt goes through layer 0, then layer 1, ...; after a layer's
// attention each target's compressor stores what it keeps, and the layer's
// full K and V are overwritten by the next layer's. Hidden states are exact;
// the peak is the hidden states, one layer's K and V, and the compressed
// rest - never the full cache.
//
// A resumable cursor over (layer, wave of row tiles): Step does one wave,
// tens of milliseconds. Results do not depend on when Step is called, on the
// number of threads, or on what else runs in between.

#ifndef PYRAMIDKV_RUNTIME_PROMPT_PASS_H_
#define PYRAMIDKV_RUNTIME_PROMPT_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/attention_prefill.h"
#include "pyramidkv/status.h"
#include "runtime/forward_context.h"
#include "runtime/layer_ops.h"
#include "runtime/sequence.h"

namespace pyramidkv {

class PromptPass {
 public:
  // One target, or several that have read nothing yet: then one prefill fills
  // all their caches. REQUIRES: tokens not empty, ids inside the vocabulary.
  PromptPass(const ForwardContext& context, std::span<const int> tokens,
             std::span<Sequence* const> targets);

  // Resolves budgets and embeds the tokens. Errors: Compressor::Begin.
  Status Begin();

  // One wave of tiles; true when the pass is complete. After an error the
  // targets' caches are in an unspecified state.
  Result<bool> Step();

  int64_t done() const;  // rows times layers
  int64_t total() const;

  // Hidden state [embedding] of the last row, before the output norm.
  // REQUIRES: complete.
  const float* last_hidden() const;

 private:
  struct Scratch {
    AlignedBuffer<float> normed, q, kv, attention, gate, up, product;
    PrefillScratch prefill;
  };

  void BeginLayer();
  void PackLayer();
  void ProjectTile(int tile, int worker);  // norm, Q K V, RoPE
  void AttendTile(int tile, int worker);   // attention, output projection
  void FeedForwardTile(int tile, int worker);
  void StoreKv(int row, const float* k, const float* v);
  void AttendRows(int first, int rows, Scratch* scratch);
  bool NeedsAttention(int tile) const;
  Status EndLayer();

  int tile_rows(int tile) const;
  float* hidden(int row) {
    return hidden_.data() + size_t(row) * params_.embedding;
  }

  ForwardContext context_;
  const HyperParams& params_;
  std::vector<int> tokens_;
  std::vector<Sequence*> targets_;
  int position_;  // of the first row
  int rows_, tiles_;
  int wave_tiles_;  // tiles of one Step
  int layer_ = 0;
  int tile_ = 0;  // next tile of the layer

  AlignedBuffer<float> hidden_;    // [tiles * kPromptTile, embedding]
  RowRotations rotations_;         // of all rows
  AlignedBuffer<float> wave_q_;    // [wave rows, heads * head_dim]
  AlignedBuffer<float> window_q_;  // [window_rows, heads * head_dim]
  int window_rows_ = 0;
  // This layer, per KV head: past entries, then the rows of this pass.
  std::vector<int> past_;                           // [kv_heads]
  std::vector<AlignedBuffer<float>> k_, v_;         // [kv_heads]
  std::vector<AlignedBuffer<uint16_t>> k16_, v16_;  // bf16 attention only
  std::vector<Scratch> scratch_;                    // [threads]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_PROMPT_PASS_H_
