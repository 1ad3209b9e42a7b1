#include "model/testing/tiny_gguf.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace pyramidkv {
namespace {

constexpr int kFirstWord = 3 + 256;  // after <unk>, <s>, </s> and the bytes
constexpr char kSpace[] = "\xe2\x96\x81";  // U+2581

// kNormal, kUnknown ... of tokenizer.ggml.token_type.
enum TokenType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };

// 0, 1, 2 ...: a space, the letters, then words "_a", "_b" ... "_aa" ...
std::string Word(int index) {
  if (index == 0) return kSpace;
  if (index <= 26) return std::string(1, static_cast<char>('a' + index - 1));
  std::string letters;
  for (int rest = index - 26; rest > 0; rest = (rest - 1) / 26) {
    letters.insert(letters.begin(), static_cast<char>('a' + (rest - 1) % 26));
  }
  return kSpace + letters;
}

class Writer {
 public:
  explicit Writer(const TinyGgufOptions& options)
      : options_(options), random_(options.seed), gguf_(gguf_init_empty()) {}
  ~Writer() {
    gguf_free(gguf_);
    for (ggml_context* context : contexts_) ggml_free(context);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  bool Write(const std::string& path) {
    SetSizes();
    SetRope();
    SetTokenizer();
    if (options_.edit_keys) options_.edit_keys(gguf_);
    AddTensors();
    return gguf_write_to_file(gguf_, path.c_str(), /*only_meta=*/false);
  }

 private:
  bool Is(std::string_view architecture) const {
    return options_.architecture == architecture;
  }
  std::string Key(const std::string& name) const {
    return options_.architecture + "." + name;
  }
  void SetInt(const std::string& key, int value) {
    gguf_set_val_u32(gguf_, Key(key).c_str(), value);
  }
  void SetFloat(const std::string& key, float value) {
    gguf_set_val_f32(gguf_, Key(key).c_str(), value);
  }

  void SetSizes() {
    gguf_set_val_str(gguf_, "general.architecture",
                     options_.architecture.c_str());
    gguf_set_val_str(gguf_, "general.name", "tiny");
    SetInt("block_count", options_.layers);
    SetInt("context_length", options_.context_length);
    SetInt("embedding_length", options_.embedding);
    SetInt("feed_forward_length", options_.feed_forward);
    SetInt("attention.head_count", options_.heads);
    SetInt("attention.head_count_kv", options_.kv_heads);
    SetInt("attention.key_length", options_.head_dim);
    SetInt("attention.value_length", options_.head_dim);
    SetInt("vocab_size", options_.vocabulary);
    SetFloat("attention.layer_norm_rms_epsilon", 1e-5f);
    if (options_.sliding_window > 0) {
      SetInt("attention.sliding_window", options_.sliding_window);
    }
  }

  int RopeDims() const {
    return options_.rope_dims > 0 ? options_.rope_dims : options_.head_dim;
  }

  void SetRope() {
    SetInt("rope.dimension_count", RopeDims());
    SetFloat("rope.freq_base", 10000.0f);
    if (options_.rope_scaling.empty()) return;
    gguf_set_val_str(gguf_, Key("rope.scaling.type").c_str(),
                     options_.rope_scaling.c_str());
    SetFloat("rope.scaling.factor", options_.rope_factor);
    if (options_.rope_original_context > 0) {
      SetInt("rope.scaling.original_context_length",
             options_.rope_original_context);
    }
  }

  void SetTokenizer() {
    std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
    std::vector<int32_t> types = {kUnknown, kControl, kControl};
    for (int byte = 0; byte < 256; ++byte) {
      tokens.push_back(fmt::format("<0x{:02X}>", byte));
      types.push_back(kByte);
    }
    std::vector<float> scores(options_.vocabulary, 0.0f);
    for (int id = kFirstWord; id < options_.vocabulary; ++id) {
      tokens.push_back(Word(id - kFirstWord));
      types.push_back(kNormal);
      scores[id] = static_cast<float>(kFirstWord - id);
    }
    if (options_.duplicate_token) tokens.back() = *(tokens.end() - 2);
    std::vector<const char*> texts;
    texts.reserve(tokens.size());
    for (const std::string& token : tokens) texts.push_back(token.c_str());
    gguf_set_val_str(gguf_, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(gguf_, "tokenizer.ggml.tokens", texts.data(),
                     texts.size());
    gguf_set_arr_data(gguf_, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32,
                      scores.data(), scores.size());
    gguf_set_arr_data(gguf_, "tokenizer.ggml.token_type", GGUF_TYPE_INT32,
                      types.data(), types.size());
    gguf_set_val_u32(gguf_, "tokenizer.ggml.unknown_token_id", 0);
    gguf_set_val_u32(gguf_, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(gguf_, "tokenizer.ggml.eos_token_id", 2);
  }

  void AddTensors() {
    const TinyGgufOptions& o = options_;
    AddMatrix("token_embd", o.vocabulary, o.embedding, /*bias=*/false);
    for (int layer = 0; layer < o.layers; ++layer) AddLayer(layer);
    AddVector("output_norm.weight", o.embedding, 1.0f);
    if (!o.tied_output) {
      AddMatrix("output", o.vocabulary, o.embedding, /*bias=*/false);
    }
    if (!o.rope_freq_factors.empty()) {
      Add("rope_freqs.weight", GGML_TYPE_F32, 1, o.rope_freq_factors);
    }
    if (o.rope_factor_pair) {
      AddVector("rope_factors_short.weight", RopeDims() / 2, 1.2f);
      AddVector("rope_factors_long.weight", RopeDims() / 2, 4.0f);
    }
    if (!o.extra_tensor.empty()) AddVector(o.extra_tensor, 8, 0.0f);
  }

  void AddLayer(int layer) {
    const TinyGgufOptions& o = options_;
    const std::string block = fmt::format("blk.{}.", layer);
    const int q_rows = o.heads * o.head_dim;
    const int kv_rows = o.kv_heads * o.head_dim;
    AddVector(block + "attn_norm.weight", o.embedding, 1.0f);
    const bool qkv_biases = o.biases || Is("qwen2");
    if (Is("phi3")) {
      AddMatrix(block + "attn_qkv", q_rows + 2 * kv_rows, o.embedding,
                qkv_biases);
    } else {
      AddMatrix(block + "attn_q", q_rows, o.embedding, qkv_biases);
      AddMatrix(block + "attn_k", kv_rows, o.embedding, false);
      if (qkv_biases) AddVector(block + "attn_k.bias", kv_rows, 0, o.key_bias);
      AddMatrix(block + "attn_v", kv_rows, o.embedding, qkv_biases);
    }
    if (Is("gemma3")) {
      AddVector(block + "post_attention_norm.weight", o.embedding, 1.0f);
      AddVector(block + "post_ffw_norm.weight", o.embedding, 1.0f);
    }
    if (Is("qwen3") || Is("gemma3")) {
      AddVector(block + "attn_q_norm.weight", o.head_dim, 1.0f);
      AddVector(block + "attn_k_norm.weight", o.head_dim, 1.0f);
    }
    AddMatrix(block + "attn_output", o.embedding, q_rows, o.biases);
    AddVector(block + "ffn_norm.weight", o.embedding, o.ffn_norm);
    if (Is("phi3")) {  // the gate's rows, then those of `up`
      AddMatrix(block + "ffn_up", 2 * o.feed_forward, o.embedding, o.biases);
    } else {
      AddMatrix(block + "ffn_gate", o.feed_forward, o.embedding, o.biases);
      AddMatrix(block + "ffn_up", o.feed_forward, o.embedding, o.biases);
    }
    AddMatrix(block + "ffn_down", o.embedding, o.feed_forward, o.biases);
  }

  std::vector<float> Random(size_t count, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  void AddMatrix(const std::string& name, int rows, int cols, bool bias) {
    const std::string weight = name + ".weight";
    if (weight == options_.widen_tensor) ++rows;
    std::vector<float> values =
        Random(static_cast<size_t>(rows) * cols, 0.0f,
               1.0f / std::sqrt(static_cast<float>(cols)));
    if (name == "token_embd" && options_.nan_token >= 0) {
      std::fill_n(values.begin() + int64_t{options_.nan_token} * cols, cols,
                  std::numeric_limits<float>::quiet_NaN());
    }
    Add(weight, static_cast<ggml_type>(options_.weight_type), rows, values);
    if (bias) AddVector(name + ".bias", rows, 0.0f);
  }

  void AddVector(const std::string& name, int size, float mean,
                 float deviation = 0.1f) {
    if (name == options_.widen_tensor) ++size;
    Add(name, GGML_TYPE_F32, 1, Random(size, mean, deviation));
  }

  // values: [rows, cols]; a single row becomes a tensor of one dimension.
  void Add(const std::string& name, ggml_type type, int rows,
           const std::vector<float>& values) {
    if (name == options_.drop_tensor) return;
    if (name == options_.integer_tensor) type = GGML_TYPE_I32;
    const int64_t cols = static_cast<int64_t>(values.size()) / rows;
    const size_t bytes = ggml_row_size(type, cols) * rows;
    ggml_context* context = ggml_init(
        {.mem_size = bytes + 4096, .mem_buffer = nullptr, .no_alloc = false});
    contexts_.push_back(context);
    const int64_t ne[2] = {cols, rows};
    ggml_tensor* tensor = ggml_new_tensor(context, type, rows > 1 ? 2 : 1, ne);
    ggml_set_name(tensor, name.c_str());
    if (type == GGML_TYPE_I32) {
      std::memset(tensor->data, 0, bytes);
    } else {
      ggml_quantize_chunk(type, values.data(), tensor->data, 0, rows, cols,
                          nullptr);
    }
    gguf_add_tensor(gguf_, tensor);
  }

  const TinyGgufOptions& options_;
  std::mt19937_64 random_;
  gguf_context* gguf_;
  std::vector<ggml_context*> contexts_;  // the tensors' memory
};

}  // namespace

bool WriteTinyGguf(const TinyGgufOptions& options, const std::string& path) {
  return Writer(options).Write(path);
}

}  // namespace pyramidkv
