#include "runtime/block.h"

#include <iterator>
#include <utility>
#include <vector>

#include "kernels/elementwise.h"

namespace pyramidkv {

void PackLayer(const ForwardContext& context, int layer) {
  const LayerWeights& w = context.model->layers()[layer];
  PackedLayer& packed = *context.packed;
  if (packed.layer == layer) return;
  packed.layer = layer;
  std::vector<std::pair<const LayerMatrix*, int>> panels;
  for (const LayerMatrix& m : kLayerMatrices) {
    PackedMatrix* const to = &(packed.*m.packed);
    context.prompt_matmul->Prepare(w.*m.weights, to);
    for (int p = 0; p < to->panel_count(); ++p) panels.emplace_back(&m, p);
  }
  context.pool->ParallelFor(
      static_cast<int>(panels.size()), [&](int i, int worker) {
        const auto& [m, panel] = panels[i];
        context.prompt_matmul->Pack(w.*m->weights, panel, worker,
                                    &(packed.*m->packed));
      });
  if (!panels.empty()) context.model->DropFilePages();
}

void BlockScratch::Resize(const HyperParams& params, int rows) {
  normed.Resize(size_t(rows) * params.embedding);
  product.Resize(size_t(rows) * params.embedding);
  gate.Resize(size_t(rows) * params.feed_forward);
  up.Resize(size_t(rows) * params.feed_forward);
}

void Block::Project(const float* hidden, BlockRows* rows, BlockScratch* scratch,
                    const BlockHeads& out) const {
  const HyperParams& p = params_;
  float* const normed = scratch->normed.data();
  Norm(hidden, weights_.attn_norm, *rows, normed);
  const BlockProduct products[] = {Product(kQ, out.q), Product(kK, out.k),
                                   Product(kV, out.v)};
  rows->Multiply(normed, products);
  const size_t q_width = size_t(p.heads) * p.head_dim;
  const size_t kv_width = size_t(p.kv_heads) * p.head_dim;
  rows->ForEach([&](int i) {
    const int row = rows->number(i);
    Rotate(weights_.q_norm, row, p.heads, out.q + i * q_width);
    Rotate(weights_.k_norm, row, p.kv_heads, out.k + i * kv_width);
  });
}

void Block::ProjectQueries(const float* hidden, BlockRows* rows,
                           BlockScratch* scratch, float* q) const {
  const HyperParams& p = params_;
  float* const normed = scratch->normed.data();
  Norm(hidden, weights_.attn_norm, *rows, normed);
  const BlockProduct product = Product(kQ, q);
  rows->Multiply(normed, {&product, 1});
  const size_t width = size_t(p.heads) * p.head_dim;
  rows->ForEach([&](int i) {
    Rotate(weights_.q_norm, rows->number(i), p.heads, q + i * width);
  });
}

void Block::AddAttention(const float* attention, BlockRows* rows,
                         BlockScratch* scratch, float* hidden) const {
  AddProduct(kOutput, weights_.attn_post_norm, attention, rows, scratch,
             hidden);
}

void Block::AddFeedForward(BlockRows* rows, BlockScratch* scratch,
                           float* hidden) const {
  float* const normed = scratch->normed.data();
  float* const gate = scratch->gate.data();
  float* const up = scratch->up.data();
  Norm(hidden, weights_.ffn_norm, *rows, normed);
  const BlockProduct products[] = {Product(kGate, gate), Product(kUp, up)};
  rows->Multiply(normed, products);
  const size_t width = params_.feed_forward;
  rows->ForEach([&](int i) {
    ActivateGate(params_.block.activation, width, up + i * width,
                 gate + i * width);
  });
  AddProduct(kDown, weights_.ffn_post_norm, gate, rows, scratch, hidden);
}

BlockProduct Block::Product(Matrix matrix, float* y) const {
  static_assert(std::size(kLayerMatrices) == kDown + 1);
  const LayerMatrix& at = kLayerMatrices[matrix];
  return {&(weights_.*at.weights), &(context_.packed->*at.packed),
          &(weights_.*at.bias), y};
}

void Block::Norm(const float* hidden, const std::vector<float>& weight,
                 const BlockRows& rows, float* normed) const {
  const size_t width = params_.embedding;
  rows.ForEach([&](int i) {
    RmsNorm(hidden + rows.number(i) * width, weight.data(), width,
            params_.rms_epsilon, normed + i * width);
  });
}

void Block::Rotate(const std::vector<float>& norm, int row, int heads,
                   float* x) const {
  NormRows(norm, heads, params_.rms_epsilon, x);
  rotations_.Apply(layer_, row, heads, x);
}

void Block::AddProduct(Matrix matrix, const std::vector<float>& post_norm,
                       const float* x, BlockRows* rows, BlockScratch* scratch,
                       float* hidden) const {
  float* const sum = scratch->product.data();
  const BlockProduct product = Product(matrix, sum);
  rows->Multiply(x, {&product, 1});
  const size_t width = params_.embedding;
  rows->ForEach([&](int i) {
    NormRows(post_norm, 1, params_.rms_epsilon, sum + i * width);
    AddTo(sum + i * width, width, hidden + rows->number(i) * width);
  });
}

}  // namespace pyramidkv
