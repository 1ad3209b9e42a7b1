#include "runtime/recall.h"

#include "kernels/elementwise.h"

namespace pyramidkv {
namespace {

bool HasEntries(const ColdTier& cold, int layer, int heads) {
  for (int h = 0; h < heads; ++h) {
    if (cold.length(layer, h) > 0) return true;
  }
  return false;
}

}  // namespace

Recall::Recall(const ForwardContext& context) : context_(context) {}

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
  const LayerWeights& w = context_.model->layers()[layer];
  const int count = static_cast<int>(rows_.size());
  const size_t q_width = size_t(p.heads) * p.head_dim;
  normed_.Resize(size_t(count) * p.embedding);
  q_.Resize(count * q_width);
  for (int i = 0; i < count; ++i) {
    RmsNorm(hidden + size_t(rows_[i]) * p.embedding, w.attn_norm.data(),
            p.embedding, p.rms_epsilon,
            normed_.data() + size_t(i) * p.embedding);
  }
  input_.Set(normed_.data(), count, p.embedding, context_.exact);
  input_.PrepareFor(w.q, context_.pool);
  const RowsProduct product{&w.q, &input_,
                            w.q_bias.empty() ? nullptr : w.q_bias.data(),
                            q_.data(), q_width};
  MultiplyRows({&product, 1}, context_.pool);
  for (int i = 0; i < count; ++i) {
    float* const q = q_.data() + i * q_width;
    NormRows(w.q_norm, p.heads, p.rms_epsilon, q);
    rotations.Apply(layer, rows_[i], p.heads, q);
  }
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
