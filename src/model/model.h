// A model as the forward pass sees it: hyper-parameters and views of the
// weights in a memory-mapped GGUF file. An architecture is a description
// (which norms, biases, RoPE, windows), never another forward pass.

#ifndef PYRAMIDKV_MODEL_MODEL_H_
#define PYRAMIDKV_MODEL_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/huge_buffer.h"
#include "base/thread_pool.h"
#include "kernels/rope.h"
#include "kernels/weight_matrix.h"
#include "model/fingerprint.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Rotary embedding, reduced to what the kernel needs: scaling of any kind
// (plain, linear, YaRN, llama3 factors) is already inside inv_freq.
struct Rope {
  // kNorm rotates the pairs (2i, 2i + 1), kNeox the pairs (i, i + dims / 2).
  enum class Layout { kNorm, kNeox };
  Layout layout = Layout::kNorm;
  int dims = 0;                 // rotated channels of a head; the rest pass
  std::vector<float> inv_freq;  // [dims / 2] radians per position
  float magnitude = 1.0f;       // factor on cos and sin (YaRN)

  Rotation rotation() const {
    return {inv_freq, layout == Layout::kNeox, magnitude};
  }
};

// Applied to the feed-forward gate. kGelu: the tanh approximation.
enum class Activation { kSilu, kGelu };

// The choices that architectures make within a layer: the loader asks for the
// tensors that follow from them, and runtime/block.cc computes with them.
//
// The rest is the same in all of them: norms are RMS norms, attention adds to
// the input of the feed-forward part, that part is gated and dense, and every
// layer rotates queries and keys. An architecture that parts from one of these
// brings a field here and its case in runtime/block.cc.
struct BlockTraits {
  bool head_norms = false;  // of each query and key head, before RoPE
  bool post_norms = false;  // of the sums that attention and feed-forward add
  Activation activation = Activation::kSilu;
};

struct HyperParams {
  std::string architecture;
  std::string name;
  int layers = 0;
  int embedding = 0;  // width of the hidden state
  int heads = 0;      // query heads
  int kv_heads = 0;   // divides heads
  int head_dim = 0;   // of K, V and queries
  int feed_forward = 0;
  int vocabulary = 0;
  int context_length = 0;
  float rms_epsilon = 0;
  float attention_scale = 0;        // 1 / sqrt(head_dim) unless the file says
  int sliding_window = 0;           // of the layers that have one; 0: none
  std::vector<bool> window_layers;  // [layers]; empty: all have it
  BlockTraits block;
  float embedding_scale = 1;  // on the rows of the token embedding
  float final_softcap = 0;    // logits are cap * tanh(logits / cap); 0: none
  int original_context = 0;   // context_length before RoPE was scaled to more
  Rope rope;
  Rope rope_local;  // of the layers with a window; no dims: `rope`, too

  int group() const { return heads / kv_heads; }
  // Tokens that a layer sees; 0: all.
  int window(int layer) const {
    return window_layers.empty() || window_layers[layer] ? sliding_window : 0;
  }
  bool has_local_rope() const { return rope_local.dims > 0; }
  const Rope& rope_of(int layer) const {
    return has_local_rope() && window(layer) > 0 ? rope_local : rope;
  }
};

// Norms are f32 [embedding]; biases are f32 [rows] or empty.
struct LayerWeights {
  std::vector<float> attn_norm;
  WeightMatrix q;       // [heads * head_dim, embedding]
  WeightMatrix k;       // [kv_heads * head_dim, embedding]
  WeightMatrix v;       // [kv_heads * head_dim, embedding]
  WeightMatrix output;  // [embedding, heads * head_dim]
  std::vector<float> q_bias, k_bias, v_bias, output_bias;
  // For each head before RoPE, [head_dim]; empty: none.
  std::vector<float> q_norm, k_norm;
  // For the sums that attention and feed-forward add, [embedding]; empty: none.
  std::vector<float> attn_post_norm, ffn_post_norm;
  std::vector<float> ffn_norm;
  WeightMatrix gate;  // [feed_forward, embedding]
  WeightMatrix up;    // [feed_forward, embedding]
  WeightMatrix down;  // [embedding, feed_forward]
  std::vector<float> gate_bias, up_bias, down_bias;
};

class MappedFile;  // model/mapped_file.h

// Immutable after Load and Repack; may be read from any thread. Owns the
// mapping that all WeightMatrix views point into.
class Model {
 public:
  // Maps the file, checks everything that is read from it and refuses by name
  // what is not supported (a part of a split model too).
  // Errors: kModel, with the path, the key or tensor, and what would be right.
  static Result<std::unique_ptr<Model>> Load(const std::string& path);
  ~Model();

  // Repacks the matrices of the layers and the output for int8 products, where
  // their types have tiles. The file's pages then leave memory; what reads
  // them again (rows of the embedding) brings them back.
  // REQUIRES: no pass runs.
  void Repack(ThreadPool* pool);
  // Again, after something was read from the file. Without repacked weights it
  // does nothing: every pass reads the file then.
  void DropFilePages() const;

  const std::string& path() const { return path_; }
  const HyperParams& params() const { return params_; }
  const WeightMatrix& token_embedding() const { return token_embedding_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const std::vector<float>& output_norm() const { return output_norm_; }
  // [vocabulary, embedding]; the token embedding where the file ties them.
  const WeightMatrix& output() const { return output_; }
  int64_t parameters() const { return parameters_; }
  int64_t file_bytes() const { return file_bytes_; }
  // Faults of the file that do no harm.
  const std::vector<std::string>& warnings() const { return warnings_; }
  const ModelFingerprint& fingerprint() const { return fingerprint_; }

 private:
  friend class ModelLoader;
  Model();

  std::string path_;
  HyperParams params_;
  std::unique_ptr<MappedFile> mapping_;
  HugeBuffer tiles_;
  WeightMatrix token_embedding_;
  WeightMatrix output_;
  std::vector<LayerWeights> layers_;
  std::vector<float> output_norm_;
  int64_t parameters_ = 0;
  int64_t file_bytes_ = 0;
  std::vector<std::string> warnings_;
  ModelFingerprint fingerprint_;
};

// Hyper-parameters from a file's header alone (no tensor is looked at), for
// `plan`. Errors as Model::Load.
Result<HyperParams> ReadHyperParams(const std::string& path);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_MODEL_H_
