// Which blocks of entries a tile of prompt rows attends to with
// prefill=sparse: the first one (sinks), a band behind the rows, and those
// that an estimate ranks first until they cover most of the attention.
//
// Source: block-sparse prefill as in MInference (arXiv 2407.02490) and
// FlexPrefill (arXiv 2502.20766), section 3.2: pooled queries and keys, blocks
// by cumulative share. Departures: keys are pooled over 8, not over a block;
// one choice for the query heads of a KV head, so that K and V are read once.

#ifndef PYRAMIDKV_RUNTIME_SPARSE_PREFILL_H_
#define PYRAMIDKV_RUNTIME_SPARSE_PREFILL_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/attention_prefill.h"
#include "kernels/block_shares.h"
#include "kernels/prompt_keys.h"

namespace pyramidkv {

inline constexpr int kBandBlocks = 4;        // in front of the rows' own
inline constexpr double kBlockCover = 0.95;  // of the estimated attention

struct BlockChoice {
  std::vector<uint8_t> skip;  // [blocks]
  double covered = 1;         // estimated share, mean over the queries
};

// share: [queries, blocks] over the blocks in front of the rows.
BlockChoice ChooseBlocks(std::span<const float> share, int queries);

// The state of one prompt pass. The choice is made for whole tiles, so with
// prefill=sparse how a prompt is cut shows in the last bits and beyond.
//
// Thread safety: Choose may run in several workers at once, each with its own
// worker number.
class SparsePrefill {
 public:
  void Resize(int kv_heads, int head_dim, int entries, int workers);
  void BeginLayer();
  // Takes in the keys of the entries [0, entries) of all KV heads, in parallel;
  // the calls of a layer go on from each other.
  void AddKeys(std::span<const PromptKeys> keys, int entries, ThreadPool* pool);
  // Sets tile->skip, valid until the worker's next call. REQUIRES: the tile's
  // entries were added.
  void Choose(int kv_head, int worker, PrefillTile* tile);
  // Estimated share of the attention that was computed, mean over all tiles
  // since Resize; 1 if there were none.
  double covered() const;

 private:
  struct Worker {
    std::vector<float> queries, shares;
    AlignedBuffer<float> logits;
    BlockChoice choice;
    double covered = 0;
    int64_t tiles = 0;
  };
  int head_dim_ = 0;
  std::vector<int> blocks_;                   // [kv_heads] pooled so far
  std::vector<AlignedBuffer<float>> pooled_;  // [kv_heads]
  std::vector<Worker> workers_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SPARSE_PREFILL_H_
