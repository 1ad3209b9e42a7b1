#include "runtime/layer_ops.h"

#include "kernels/elementwise.h"
#include "kernels/rope.h"

namespace pyramidkv {
namespace {

void SetTable(const Rope& rope, int row, int position,
              AlignedBuffer<float>* tables) {
  RopeTable(rope.inv_freq.data(), rope.dims / 2, position, rope.magnitude,
            tables->data() + size_t(row) * rope.dims);
}

}  // namespace

void EmbedToken(const Model& model, int token, float* hidden) {
  const HyperParams& p = model.params();
  DequantizeRows(model.token_embedding(), token, 1, hidden);
  if (p.embedding_scale == 1) return;
  for (int i = 0; i < p.embedding; ++i) hidden[i] *= p.embedding_scale;
}

void NormRows(const std::vector<float>& weight, int rows, float epsilon,
              float* x) {
  if (weight.empty()) return;
  for (int r = 0; r < rows; ++r, x += weight.size()) {
    RmsNorm(x, weight.data(), weight.size(), epsilon, x);
  }
}

void ActivateGate(Activation activation, size_t n, const float* up,
                  float* gate) {
  switch (activation) {
    case Activation::kSilu:
      return SiluMul(gate, up, n);
    case Activation::kGelu:
      return GeluMul(gate, up, n);
  }
}

void RowRotations::Resize(const HyperParams& params, int rows) {
  params_ = &params;
  tables_.Resize(size_t(rows) * params.rope.dims);
  local_tables_.Resize(size_t(rows) * params.rope_local.dims);
}

void RowRotations::Set(int row, int position) {
  SetTable(params_->rope, row, position, &tables_);
  if (!params_->has_local_rope()) return;
  SetTable(params_->rope_local, row, position, &local_tables_);
}

void RowRotations::Apply(int layer, int row, int heads, float* x) const {
  const Rope& rope = params_->rope_of(layer);
  const bool local = &rope == &params_->rope_local;
  const float* table = (local ? local_tables_ : tables_).data();
  ApplyRope(table + size_t(row) * rope.dims, rope.dims / 2,
            rope.layout == Rope::Layout::kNeox, heads, params_->head_dim, x);
}

}  // namespace pyramidkv
