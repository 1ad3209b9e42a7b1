// Generated and forced rows: each appends one entry per layer and KV head to
// its sequence's cache and attends over what is stored.
//
// Rows of one call may belong to several sequences (a decode batch), or
// follow each other in one (teacher forcing); the weights are read once for
// all of them. A row's result does not depend on the others.

#ifndef PYRAMIDKV_RUNTIME_DECODE_PASS_H_
#define PYRAMIDKV_RUNTIME_DECODE_PASS_H_

#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/attention_decode.h"
#include "pyramidkv/status.h"
#include "runtime/block.h"
#include "runtime/block_rows.h"
#include "runtime/forward_context.h"
#include "runtime/layer_ops.h"
#include "runtime/recall.h"
#include "runtime/sequence.h"

namespace pyramidkv {

struct DecodeRow {
  Sequence* sequence = nullptr;
  int token = 0;
};

class DecodePass {
 public:
  explicit DecodePass(const ForwardContext& context);

  // Up to kMaxRows rows; rows of one sequence are consecutive. logits:
  // [rows, vocabulary]. Makes room for the rows (Sequence::MakeRoom) and raises
  // the sequences' positions. status: [rows], of each row's sequence: one that
  // fails (kDoesNotFit; kRuntime: no memory, no disk) is in an unspecified
  // state afterwards, and its logits are of no use; the others never notice.
  void Run(std::span<const DecodeRow> rows, float* logits,
           std::span<Status> status);

  // Output norm and output matrix over hidden states [rows, embedding],
  // rows <= kMaxRows, into logits [rows, vocabulary].
  void Output(const float* hidden, int rows, float* logits);

 private:
  struct RowState {
    Sequence* sequence = nullptr;
    int position = 0;
    int later = 0;        // rows of the same sequence after this one
    bool failed = false;  // its sequence takes no further part
  };
  struct Task {  // one part of a segment for one row and KV head
    Segment segment;
    DecodeQuery query;
    int part = 0;
    size_t result = 0;     // offset into results_
    int64_t weights = -1;  // offset into weights_; < 0: not wanted
  };
  struct Merge {  // the parts of one row and KV head
    size_t result = 0;
    int parts = 0;  // of the cache, then of the cold tier
    float* out = nullptr;
    HeadSegments segments;
    int64_t weights = -1;  // offset into weights_; < 0: not wanted
    Sequence* sequence = nullptr;
  };

  void Begin(std::span<const DecodeRow> rows);
  void Fail(const Sequence* sequence, const Status& status);
  void RunLayer(int layer);
  void Append(int layer);
  Status AppendRow(int layer, int row);
  void FetchCold(int layer);
  void Attend(int layer);
  void EndRows();
  void AddRow(int layer, int row, size_t* result, size_t* weights);
  // For fetched entries; `head` counts over rows and KV heads.
  void AddColdTasks(int head);
  void AttendFurtherViews(int layer);
  void RunTasks();
  DecodeQuery QueryOf(int row, int head) const;
  void GatherReceived(int layer);
  int rows() const { return static_cast<int>(states_.size()); }

  ForwardContext context_;
  const HyperParams& params_;
  std::vector<RowState> states_;
  std::span<Status> status_;          // by row
  std::vector<Sequence*> sequences_;  // by row
  Recall recall_;
  std::vector<ColdView> cold_;  // [rows, kv_heads], of the current layer
  AlignedBuffer<float> hidden_, q_, k_, v_, attention_;
  GeneratedRows block_rows_;
  BlockScratch block_scratch_;
  RowRotations rotations_;
  std::vector<Task> tasks_;
  std::vector<Merge> merges_;
  AlignedBuffer<float> results_;
  AlignedBuffer<float> weights_;  // [group, kPartSlots] of each part
  std::vector<AlignedBuffer<float>> scratch_;  // [threads]
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_DECODE_PASS_H_
