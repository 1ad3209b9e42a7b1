#include "model/fingerprint.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "model/gguf_file.h"
#include "model/model.h"

namespace pyramidkv {
namespace {

constexpr uint64_t kSampleBytes = 256;

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) { XXH3_64bits_reset(state_.get()); }

  void Add(const void* data, size_t bytes) {
    XXH3_64bits_update(state_.get(), data, bytes);
  }
  template <typename T>
  void AddValue(T value) {
    static_assert(std::is_arithmetic_v<T>);
    Add(&value, sizeof(value));
  }
  void AddText(std::string_view text) {
    AddValue(uint64_t{text.size()});
    Add(text.data(), text.size());
  }
  uint64_t Digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

uint64_t HashTensors(const GgufFile& file) {
  Hasher hash;
  for (const GgufTensor& tensor : file.tensors()) {
    hash.AddText(tensor.name);
    hash.AddValue(int32_t{tensor.type});
    for (int64_t n : tensor.ne) hash.AddValue(n);
  }
  return hash.Digest();
}

uint64_t HashWeights(const GgufFile& file) {
  Hasher hash;
  for (const GgufTensor& tensor : file.tensors()) {
    const std::byte* const data = file.Data(tensor);
    const uint64_t bytes = std::min(tensor.bytes, kSampleBytes);
    hash.Add(data, bytes);
    hash.Add(data + std::min(tensor.bytes / 2, tensor.bytes - bytes), bytes);
  }
  return hash.Digest();
}

void AddStrings(const GgufFile& file, const std::string& key, Hasher* hash) {
  if (!file.Has(key)) return;
  hash->AddText(key);
  const auto strings = file.Strings(key);
  if (!strings.ok()) return;
  for (const char* text : *strings) hash->AddText(text);
}

template <typename T>
void AddArray(const std::string& key, const Result<std::span<const T>>& values,
              Hasher* hash) {
  if (!values.ok()) return;
  hash->AddText(key);
  hash->Add(values->data(), values->size_bytes());
}

uint64_t HashTokenizer(const GgufFile& file) {
  const std::string prefix = "tokenizer.ggml.";
  Hasher hash;
  for (const char* name : {"tokens", "merges"}) {
    AddStrings(file, prefix + name, &hash);
  }
  AddArray(prefix + "token_type", file.Ints(prefix + "token_type"), &hash);
  AddArray(prefix + "scores", file.Floats(prefix + "scores"), &hash);
  for (const char* name : {"model", "pre"}) {
    if (const auto text = file.String(prefix + name); text.ok()) {
      hash.AddText(prefix + name);
      hash.AddText(*text);
    }
  }
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding"}) {
    const std::string key = fmt::format("{}{}_token_id", prefix, name);
    if (const auto id = file.Int(key, 0, INT32_MAX); id.ok()) {
      hash.AddText(key);
      hash.AddValue(*id);
    }
  }
  for (const char* name :
       {"add_bos_token", "add_eos_token", "add_space_prefix"}) {
    if (const auto flag = file.Bool(prefix + name); flag.ok()) {
      hash.AddText(name);
      hash.AddValue(uint8_t{*flag});
    }
  }
  return hash.Digest();
}

void AddRope(const Rope& rope, Hasher* hash) {
  hash->AddValue(static_cast<int32_t>(rope.layout));
  hash->AddValue(int32_t{rope.dims});
  hash->Add(rope.inv_freq.data(), rope.inv_freq.size() * sizeof(float));
  hash->AddValue(rope.magnitude);
}

uint64_t HashRope(const HyperParams& p) {
  Hasher hash;
  hash.AddText(p.architecture);
  for (int number : {p.layers, p.embedding, p.heads, p.kv_heads, p.head_dim,
                     p.sliding_window, static_cast<int>(p.block.activation)}) {
    hash.AddValue(int32_t{number});
  }
  for (float number :
       {p.rms_epsilon, p.attention_scale, p.embedding_scale, p.final_softcap}) {
    hash.AddValue(number);
  }
  for (int l = 0; l < p.layers; ++l) hash.AddValue(int32_t{p.window(l)});
  AddRope(p.rope, &hash);
  AddRope(p.rope_local, &hash);
  return hash.Digest();
}

}  // namespace

ModelFingerprint FingerprintOf(const GgufFile& file,
                               const HyperParams& params) {
  return {HashTensors(file), HashWeights(file), HashTokenizer(file),
          HashRope(params)};
}

}  // namespace pyramidkv
