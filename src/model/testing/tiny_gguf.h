// Writes small random models, valid for this library and for llama.cpp
// (vocabulary and whole model), and broken ones for the tests of bad input.

#ifndef PYRAMIDKV_MODEL_TESTING_TINY_GGUF_H_
#define PYRAMIDKV_MODEL_TESTING_TINY_GGUF_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

struct gguf_context;

namespace pyramidkv {

struct TinyGgufOptions {
  std::string architecture = "llama";  // decides which tensors there are
  int layers = 2;
  int embedding = 64;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 16;  // need not be embedding / heads
  int feed_forward = 96;
  // At least 300: <unk>, <s>, </s>, 256 bytes, then short words. Text is
  // tokenised as SentencePiece does, with byte fallback.
  int vocabulary = 320;
  int context_length = 256;
  // A ggml_type for all matrices (0 is F32); its block must divide embedding,
  // heads * head_dim and feed_forward.
  int weight_type = 0;
  bool biases = false;    // of all matrices; qwen2 has those of q, k, v anyway
  float key_bias = 0.1f;  // size of the biases of k; Qwen2's are large
  bool tied_output = true;
  float ffn_norm = 1.0f;  // mean of the weights of that norm
  int sliding_window = 0;

  std::string rope_scaling;       // empty: no key; else none, linear, yarn
  float rope_factor = 1.0f;       // written with rope_scaling
  int rope_original_context = 0;  // written if > 0
  int rope_dims = 0;              // rotated channels; 0: head_dim
  // [rope_dims / 2] of rope_freqs.weight; empty: no such tensor.
  std::vector<float> rope_freq_factors;
  // phi3: random rope_factors_short.weight and rope_factors_long.weight.
  bool rope_factor_pair = false;

  uint64_t seed = 1;

  // Damage. Called with all keys set, before the tensors are added.
  std::function<void(gguf_context*)> edit_keys;
  std::string drop_tensor;       // leaves this one out
  std::string widen_tensor;      // gives this one a row (or value) too many
  std::string extra_tensor;      // adds an f32 tensor [8] of this name
  std::string integer_tensor;    // stores this one as i32
  int nan_token = -1;            // its embedding is not a number
  bool duplicate_token = false;  // the last two tokens are the same
};

// Weights are N(0, 1 / sqrt(cols)), norms near 1; the same options give the
// same file. False if the file cannot be written.
bool WriteTinyGguf(const TinyGgufOptions& options, const std::string& path);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_TESTING_TINY_GGUF_H_
