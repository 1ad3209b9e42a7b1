#include "runtime/recall.h"

namespace pyramidkv {
namespace {

bool HasEntries(const ColdTier& cold, int layer, int heads) {
  for (int h = 0; h < heads; ++h) {
    if (cold.length(layer, h) > 0) return true;
  }
  return false;
}

}  // namespace

Recall::Recall(const ForwardContext& context)
    : context_(context), block_rows_(context) {}

void Recall::Select(int layer, std::span<Sequence* const> rows,
                    const float* hidden, const RowRotations& rotations) {
  const HyperParams& p = context_.model->params();
  rows_.clear();
  for (size_t r = 0; r < rows.size(); ++r) {
    const ColdTier* cold = rows[r]->cold.get();
    if (cold != nullptr && HasEntries(*cold, layer, p.kv_heads)) {
      rows_.push_back(static_cast<int>(r));
    }
  }
  if (rows_.empty()) return;
  const int count = static_cast<int>(rows_.size());
  const size_t q_width = size_t(p.heads) * p.head_dim;
  scratch_.normed.Resize(size_t(count) * p.embedding);
  q_.Resize(count * q_width);
  block_rows_.Set(rows_);
  Block(context_, layer, rotations)
      .ProjectQueries(hidden, &block_rows_, &scratch_, q_.data());
  context_.pool->ParallelFor(count * p.kv_heads, [&](int i, int) {
    const int h = i % p.kv_heads;
    ColdTier& cold = *rows[rows_[i / p.kv_heads]]->cold;
    if (cold.length(layer, h) == 0) return;
    cold.Select(layer, h,
                q_.data() + i / p.kv_heads * q_width +
                    size_t(h) * p.group() * p.head_dim,
                p.group(), p.attention_scale);
  });
}

}  // namespace pyramidkv
