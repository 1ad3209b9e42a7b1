// Prompt rows through the model, layer by layer: exact prefill of a new
// sequence, or Extend of a compressed one.
//
// The whole prompt goes through layer 0, then layer 1, ...; after a layer's
// attention each target's compressor stores what it keeps, and the layer's
// full K and V are overwritten by the next layer's. Hidden states are exact;
// the peak is the hidden states, one layer's K and V, and the compressed
// rest - never the full cache.
//
// Where a scorer asks for it, rows that repeat the context go through each
// layer after it (KVzip): they see the context and write nothing into a
// cache, but scorers see their queries.
//
// A resumable cursor over (layer, wave of row tiles, target): Step does one
// wave, tens of milliseconds, or gives a layer to one target's compressor.
// Results do not depend on when Step is called, on the number of threads, or
// on what else runs in between.

#ifndef PYRAMIDKV_RUNTIME_PROMPT_PASS_H_
#define PYRAMIDKV_RUNTIME_PROMPT_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/attention_prefill.h"
#include "pyramidkv/status.h"
#include "runtime/block.h"
#include "runtime/block_rows.h"
#include "runtime/forward_context.h"
#include "runtime/layer_keys.h"
#include "runtime/layer_ops.h"
#include "runtime/sequence.h"
#include "runtime/sparse_prefill.h"

namespace pyramidkv {

// Memory of a pass, which the passes of a prompt's chunks take one after the
// other: what is touched for the first time costs as much as 1 % of a prompt.
struct PromptWorkspace {
  struct Worker {
    AlignedBuffer<float> kv, attention;
    BlockScratch block;
    PrefillScratch prefill;
  };
  AlignedBuffer<float> hidden;  // [tiles * tile rows, embedding]
  RowRotations rotations;       // of the rows of all tiles
  // Queries of one wave, or of all tiles where a scorer looks at them.
  AlignedBuffer<float> q;         // [rows, heads * head_dim]
  AlignedBuffer<float> lse;       // [tiles * tile rows, heads]
  AlignedBuffer<float> window_q;  // [window rows, heads * head_dim]
  LayerKeys keys;
  std::vector<Worker> workers;  // [threads]
};

class PromptPass {
 public:
  // One target, or several that have read nothing yet: then one prefill fills
  // all their caches. repeat: what asks for a repetition of the context.
  // `work` must outlive this. REQUIRES: tokens not empty, ids inside the
  // vocabulary.
  PromptPass(const ForwardContext& context, std::span<const int> tokens,
             std::span<Sequence* const> targets, std::span<const int> repeat,
             PromptWorkspace* work);

  // Resolves budgets and embeds the tokens. prompt_end: tokens that the
  // sequence will have seen when the prompt ends, of which these may be a part
  // (prefill=streaming). Errors: Compressor::Begin, Sequence::MakeRoom.
  Status Begin(int prompt_end);

  // One wave of tiles, or what one target keeps of a layer; true when the pass
  // is complete. After an error the targets' caches are in an unspecified
  // state.
  Result<bool> Step();

  int64_t done() const;  // rows times layers
  int64_t total() const;

  // Hidden state [embedding] of the last row, before the output norm.
  // REQUIRES: complete.
  const float* last_hidden() const;

 private:
  // Consecutive rows of one kind: the prompt, or one repetition.
  struct Segment {
    int first_tile = 0;
    int rows = 0;
    int position = 0;      // of the first row
    int entry = 0;         // of the first row, after the past ones
    int from = 0, to = 0;  // fresh entries that the repetition repeats
    std::vector<int> tokens;
  };

  void AddSegment(std::vector<int> tokens, int from, int to);
  void AddRepetitions(std::span<const int> repeat);
  PromptKeys::Options KeyOptions() const;
  void ResizeBuffers();
  void EmbedTile(int tile);
  Status BeginLayer();
  void ProjectTile(int tile, int worker);  // norm, Q K V, RoPE
  void AttendRows(int tile, int worker);
  void FinishTile(int tile, int worker);  // output projection, feed-forward
  PromptTileRows block_rows(int tile, int worker) const;
  bool IsSparse() const {
    return sparse_ && targets_[0]->plan.window(layer_) == 0;
  }
  bool NeedsAttention(int tile) const;
  bool NeedsOutput(int tile) const;
  int TilesOfWave() const;
  void RunWave();
  Status EndLayer(Sequence* target);
  Status EndPass(Sequence* target);

  const Segment& segment_of(int tile) const {
    return segments_[tile_segment_[tile]];
  }
  int first_row(int tile) const {  // within its segment
    return (tile - segment_of(tile).first_tile) * tile_rows_;
  }
  int rows_in(int tile) const;
  PromptRows rows_of(int tile) const;
  size_t q_width() const { return size_t(params_.heads) * params_.head_dim; }
  // Row `row` of all tiles, padding rows counted.
  float* hidden(int row) {
    return work_.hidden.data() + size_t(row) * params_.embedding;
  }
  float* query(int tile) {
    const int first = keep_queries_ ? 0 : tile_;
    return work_.q.data() + size_t(tile - first) * tile_rows_ * q_width();
  }

  ForwardContext context_;
  const HyperParams& params_;
  std::vector<Sequence*> targets_;
  int position_;  // of the first row
  int rows_;      // of the prompt
  int tile_rows_;
  std::vector<Segment> segments_;  // the prompt, then repetitions
  std::vector<int> tile_segment_;  // [tiles]
  int tiles_ = 0;
  int wave_tiles_;  // most tiles of one Step
  int layer_ = 0;
  int tile_ = 0;    // next tile of the layer
  int wave_ = 0;    // first tile of the last wave
  int target_ = 0;  // that takes the layer next, once all tiles are through

  PromptWorkspace& work_;
  bool keep_queries_ = false;  // of all tiles, not of one wave
  bool keep_lse_ = false;
  int window_rows_ = 0;
  int longest_repetition_ = 0;
  int prompt_end_ = 0;
  // [kv_heads] of [entries], empty where the cache has none.
  std::vector<std::vector<float>> bias_;
  // prefill=sparse, in layers without a window of a sequence that is new.
  bool sparse_ = false;
  SparsePrefill blocks_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_PROMPT_PASS_H_
