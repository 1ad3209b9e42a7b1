// The steps of a layer between its matrix products, one row or one head at a
// time.

#ifndef PYRAMIDKV_RUNTIME_LAYER_OPS_H_
#define PYRAMIDKV_RUNTIME_LAYER_OPS_H_

#include <cstddef>
#include <vector>

#include "base/aligned_buffer.h"
#include "model/model.h"

namespace pyramidkv {

// Hidden state [embedding] of a token before the first layer.
void EmbedToken(const Model& model, int token, float* hidden);

// x: [rows, weight.size()], each row normed in place. No weight, no norm.
void NormRows(const std::vector<float>& weight, int rows, float epsilon,
              float* x);

// gate = activation(gate) * up, both [n].
void ActivateGate(Activation activation, size_t n, const float* up,
                  float* gate);

// Rotations of the rows of one pass, for each RoPE that the layers use.
class RowRotations {
 public:
  // `params` must outlive this.
  void Resize(const HyperParams& params, int rows);
  // Different rows may be set in different threads.
  void Set(int row, int position);
  // Rotates the query or key heads of a row: [heads, head_dim].
  void Apply(int layer, int row, int heads, float* x) const;

 private:
  const HyperParams* params_ = nullptr;
  AlignedBuffer<float> tables_;        // [rows, rope dims]
  AlignedBuffer<float> local_tables_;  // the same for rope_local, or empty
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_LAYER_OPS_H_
