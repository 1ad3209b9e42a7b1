#include "runtime/admission.h"

#include <algorithm>

#include "cache/page_pool.h"
#include "kernels/matmul_rows.h"
#include "policy/layer_plan.h"
#include "policy/layer_scores.h"
#include "pyramidkv/plan.h"
#include "runtime/prompt_pass.h"

namespace pyramidkv {
namespace {

// Bytes of K and V of a prompt entry in all forms that LayerKeys may hold: f32
// and 16 bits.
constexpr int64_t kKeyBytes = 2 * (sizeof(float) + sizeof(uint16_t));

// Entries that generated tokens add to a head beyond the prompt's budget.
int AnswerEntries(const CacheSpec& spec, const RequestSize& size) {
  if (!spec.evicts_decoded()) return size.answer;
  const int64_t waits = int64_t{spec.budget.from} - size.before - size.prompt;
  const int64_t most =
      std::max<int64_t>(waits, 0) + spec.budget.slack + kMaxRows;
  return static_cast<int>(std::min<int64_t>(size.answer, most));
}

int64_t AnswerBytes(const CacheSpec& spec, const HyperParams& p,
                    const RequestSize& size) {
  const int entries = AnswerEntries(spec, size);
  // Where a head's last page ends is not known.
  const int pages = (entries + kPageEntries - 1) / kPageEntries + 1;
  const HeadFormat format = spec.storage.head_format(p.head_dim);
  const int64_t side = SideBytesPerEntry(spec, p.head_dim) + sizeof(int32_t);
  const int64_t head = pages * static_cast<int64_t>(format.page_bytes()) +
                       int64_t{pages} * kPageEntries * side;
  return head * p.layers * p.kv_heads;
}

int64_t PromptBytes(const CacheSpec& spec, const ForwardContext& context,
                    const RequestSize& size) {
  const HyperParams& p = context.model->params();
  const ScorerNeeds needs = NeedsOf(spec);
  const int64_t width = int64_t{p.heads} * p.head_dim;
  const int64_t prompt = size.prompt + kPromptTile;
  // A repetition goes through the model with a few tokens more.
  const int64_t rows = needs.repetition ? prompt * 9 / 4 + kPromptTile : prompt;
  const bool queries =
      needs.all_rows || needs.repetition || needs.query_statistics;
  const int64_t kept_queries = queries ? rows : std::min<int64_t>(rows, 768);
  const int64_t floats = rows * (p.embedding + 2 * p.head_dim + p.heads) +
                         kept_queries * width +
                         int64_t{needs.window_rows} * width;
  const int64_t worker =
      int64_t{kPromptTile} * (2 * p.embedding + 2 * p.kv_heads * p.head_dim +
                              width + 2 * p.feed_forward);
  const int64_t keys = (size.before + prompt + kMaxRows) * p.kv_heads *
                       int64_t{p.head_dim} * kKeyBytes;
  return (floats + context.pool->threads() * worker) *
             static_cast<int64_t>(sizeof(float)) +
         keys;
}

}  // namespace

Result<RequestBytes> PlanRequest(const CacheSpec& spec,
                                 const ForwardContext& context,
                                 const RequestSize& size) {
  const HyperParams& p = context.model->params();
  PlanDims dims;
  dims.layers = p.layers;
  dims.kv_heads = p.kv_heads;
  dims.head_dim = p.head_dim;
  dims.tokens = std::max(1, size.before + size.prompt);
  dims.sliding_window = p.sliding_window;
  dims.window_layers = p.window_layers;
  PKV_ASSIGN_OR_RETURN(const CachePlan plan,
                       PlanCache(FormatCacheSpec(spec), dims));
  RequestBytes bytes;
  bytes.cache = plan.bytes_most + AnswerBytes(spec, p, size);
  if (spec.compresses && spec.budget.heads == HeadSplit::kGlobal) {
    // Candidates of the layers so far, and one layer as a whole.
    bytes.cache += plan.bytes / 8 + plan.bytes_full / p.layers;
  }
  // One arena of a tier's blocks may be partly used.
  if (spec.offloads()) bytes.cache += kArenaBytes;
  if (size.prompt > 0) bytes.prompt = PromptBytes(spec, context, size);
  return bytes;
}

}  // namespace pyramidkv
