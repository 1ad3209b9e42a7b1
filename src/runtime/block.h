// The layer block but for attention itself, once for the rows of a prompt and
// for generated ones (runtime/block_rows.h):
//
//   n = norm(x);  q, k, v = n * W + b;  q, k = RoPE(head_norm(q, k))
//   x += post_norm(attention(q, k, v) * W + b)
//   n = norm(x);  x += post_norm((activation(n * W + b) * (n * W + b)) * W + b)
//
// Norms without weights and biases that are empty are left out; the rest of
// what an architecture chooses is in BlockTraits (model/model.h).

#ifndef PYRAMIDKV_RUNTIME_BLOCK_H_
#define PYRAMIDKV_RUNTIME_BLOCK_H_

#include "base/aligned_buffer.h"
#include "model/model.h"
#include "runtime/block_rows.h"
#include "runtime/forward_context.h"
#include "runtime/layer_ops.h"

namespace pyramidkv {

// Where one of a layer's matrices lies, with its bias and its packed form.
struct LayerMatrix {
  WeightMatrix LayerWeights::*weights;
  std::vector<float> LayerWeights::*bias;
  PackedMatrix PackedLayer::*packed;
};

// All of a layer, in the order that they are used in (Block::Matrix).
inline constexpr LayerMatrix kLayerMatrices[] = {
    {&LayerWeights::q, &LayerWeights::q_bias, &PackedLayer::q},
    {&LayerWeights::k, &LayerWeights::k_bias, &PackedLayer::k},
    {&LayerWeights::v, &LayerWeights::v_bias, &PackedLayer::v},
    {&LayerWeights::output, &LayerWeights::output_bias, &PackedLayer::output},
    {&LayerWeights::gate, &LayerWeights::gate_bias, &PackedLayer::gate},
    {&LayerWeights::up, &LayerWeights::up_bias, &PackedLayer::up},
    {&LayerWeights::down, &LayerWeights::down_bias, &PackedLayer::down}};

// Expands a layer's weights for prompt rows, in all workers; nothing where they
// are already.
void PackLayer(const ForwardContext& context, int layer);

// Memory between the products, for rows that go through a block together.
struct BlockScratch {
  AlignedBuffer<float> normed, product;  // [rows, embedding]
  AlignedBuffer<float> gate, up;         // [rows, feed_forward]

  void Resize(const HyperParams& params, int rows);
};

// [rows, heads * head_dim] and twice [rows, kv_heads * head_dim].
struct BlockHeads {
  float* q = nullptr;
  float* k = nullptr;
  float* v = nullptr;
};

class Block {
 public:
  // Layer `layer`; all must outlive this. hidden: [rows of the pass,
  // embedding], of which `rows` are looked at or added to.
  Block(const ForwardContext& context, int layer, const RowRotations& rotations)
      : context_(context),
        params_(context.model->params()),
        weights_(context.model->layers()[layer]),
        layer_(layer),
        rotations_(rotations) {}

  // Queries, keys and values of the rows, rotated.
  void Project(const float* hidden, BlockRows* rows, BlockScratch* scratch,
               const BlockHeads& out) const;
  // The queries alone.
  void ProjectQueries(const float* hidden, BlockRows* rows,
                      BlockScratch* scratch, float* q) const;

  // Adds what the rows' heads brought: attention [rows, heads * head_dim].
  void AddAttention(const float* attention, BlockRows* rows,
                    BlockScratch* scratch, float* hidden) const;

  void AddFeedForward(BlockRows* rows, BlockScratch* scratch,
                      float* hidden) const;

 private:
  enum Matrix { kQ, kK, kV, kOutput, kGate, kUp, kDown };

  BlockProduct Product(Matrix matrix, float* y) const;
  // Rows of hidden states, normed, one after the other.
  void Norm(const float* hidden, const std::vector<float>& weight,
            const BlockRows& rows, float* normed) const;
  // Norm and RoPE of a row's heads.
  void Rotate(const std::vector<float>& norm, int row, int heads,
              float* x) const;
  // hidden += post_norm(x * transpose(matrix) + bias).
  void AddProduct(Matrix matrix, const std::vector<float>& post_norm,
                  const float* x, BlockRows* rows, BlockScratch* scratch,
                  float* hidden) const;

  const ForwardContext& context_;
  const HyperParams& params_;
  const LayerWeights& weights_;
  int layer_;
  const RowRotations& rotations_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_BLOCK_H_
