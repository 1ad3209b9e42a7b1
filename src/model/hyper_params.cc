#include "model/hyper_params.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "base/limits.h"
#include "model/architecture.h"
#include "model/key_reader.h"
#include "model/rope_keys.h"

namespace pyramidkv {
namespace {

constexpr int kMaxLayers = 1024;
constexpr int kMaxHeads = 1024;
constexpr int kMaxHeadDim = 1024;
constexpr int kHeadDimMultiple = 8;  // what the attention kernels need
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr double kMinFactor = 1e-6;  // of what must not be zero
constexpr double kMaxFactor = 1e6;
constexpr double kMinEpsilon = 1e-12;

class Reader {
 public:
  Reader(const GgufFile& file, const Architecture& architecture)
      : file_(file),
        architecture_(architecture),
        keys_(file, std::string(architecture.name)) {}

  Result<HyperParams> Read() {
    PKV_RETURN_IF_ERROR(ReadGeneral());
    PKV_RETURN_IF_ERROR(RefuseUnsupported());
    PKV_RETURN_IF_ERROR(ReadSizes());
    PKV_RETURN_IF_ERROR(ReadHeads());
    PKV_RETURN_IF_ERROR(ReadVocabulary());
    PKV_RETURN_IF_ERROR(ReadAttention());
    PKV_RETURN_IF_ERROR(ReadRope(keys_, architecture_, &params_));
    PKV_RETURN_IF_ERROR(ReadEnds());
    return std::move(params_);
  }

 private:
  Status ReadGeneral() {
    params_.architecture = architecture_.name;
    if (file_.Has("general.type")) {
      PKV_ASSIGN_OR_RETURN(const std::string type,
                           file_.String("general.type"));
      if (type != "model") {
        return file_.Error(
            fmt::format("holds a '{}' (general.type), not a model", type));
      }
    }
    params_.name = std::filesystem::path(file_.path()).stem().string();
    if (file_.Has("general.name")) {
      PKV_ASSIGN_OR_RETURN(params_.name, file_.String("general.name"));
    }
    return {};
  }

  Status RefuseUnsupported() const {
    PKV_ASSIGN_OR_RETURN(const int64_t experts,
                         keys_.IntOr("expert_count", 0, 0, kMaxWidth));
    if (experts > 0) {
      return file_.Error(fmt::format(
          "is a mixture of {} experts ({}); only dense models are supported",
          experts, keys_.Key("expert_count")));
    }
    PKV_RETURN_IF_ERROR(keys_.RefuseOtherThan("attn_logit_softcapping", 0));
    if (!architecture_.final_softcap) {
      PKV_RETURN_IF_ERROR(keys_.RefuseOtherThan("final_logit_softcapping", 0));
    }
    for (const char* name :
         {"embedding_scale", "residual_scale", "logit_scale"}) {
      PKV_RETURN_IF_ERROR(keys_.RefuseOtherThan(name, 1));
    }
    if (architecture_.windows == WindowUse::kAllLayers &&
        keys_.Has("attention.sliding_window_pattern")) {
      return file_.Error(fmt::format(
          "key {} is not supported: all layers must have the same window",
          keys_.Key("attention.sliding_window_pattern")));
    }
    if (keys_.Has("attention.causal")) {
      PKV_ASSIGN_OR_RETURN(const bool causal,
                           file_.Bool(keys_.Key("attention.causal")));
      if (!causal)
        return file_.Error(
            "attention that is not causal is not "
            "supported");
    }
    return {};
  }

  Status ReadSizes() {
    PKV_ASSIGN_OR_RETURN(params_.layers,
                         keys_.Int("block_count", 1, kMaxLayers));
    PKV_ASSIGN_OR_RETURN(params_.embedding,
                         keys_.Int("embedding_length", 1, kMaxWidth));
    PKV_ASSIGN_OR_RETURN(params_.feed_forward,
                         file_.UniformInt(keys_.Key("feed_forward_length"),
                                          params_.layers, 1, kMaxWidth));
    PKV_ASSIGN_OR_RETURN(params_.context_length,
                         keys_.Int("context_length", 1, kMostTokens));
    PKV_ASSIGN_OR_RETURN(
        params_.rms_epsilon,
        keys_.Float("attention.layer_norm_rms_epsilon", kMinEpsilon, 1));
    return {};
  }

  Status ReadHeads() {
    const std::string heads_key = keys_.Key("attention.head_count");
    PKV_ASSIGN_OR_RETURN(
        params_.heads,
        file_.UniformInt(heads_key, params_.layers, 1, kMaxHeads));
    params_.kv_heads = params_.heads;
    const std::string kv_key = keys_.Key("attention.head_count_kv");
    if (file_.Has(kv_key)) {
      PKV_ASSIGN_OR_RETURN(
          params_.kv_heads,
          file_.UniformInt(kv_key, params_.layers, 1, kMaxHeads));
    }
    if (params_.heads % params_.kv_heads != 0) {
      return file_.Error(
          fmt::format("key {} is {}, which does not divide {} "
                      "({})",
                      kv_key, params_.kv_heads, params_.heads, heads_key));
    }
    return ReadHeadDim();
  }

  Result<int64_t> HeadDimOf(std::string_view name) const {
    const std::string key = keys_.Key(name);
    if (file_.Has(key)) return file_.Int(key, 1, kMaxHeadDim);
    if (params_.embedding % params_.heads != 0) {
      return file_.Error(fmt::format(
          "{} ({}) is not a multiple of {} ({}), and there is no {}",
          keys_.Key("embedding_length"), params_.embedding,
          keys_.Key("attention.head_count"), params_.heads, key));
    }
    return params_.embedding / params_.heads;
  }

  Status ReadHeadDim() {
    PKV_ASSIGN_OR_RETURN(const int64_t key_dim,
                         HeadDimOf("attention.key_length"));
    PKV_ASSIGN_OR_RETURN(const int64_t value_dim,
                         HeadDimOf("attention.value_length"));
    if (key_dim != value_dim) {
      return file_.Error(fmt::format(
          "heads have {} channels for keys and {} for values "
          "(attention.key_length, attention.value_length); different sizes "
          "are not supported",
          key_dim, value_dim));
    }
    if (key_dim % kHeadDimMultiple != 0 || key_dim > kMaxHeadDim) {
      return file_.Error(fmt::format(
          "heads of {} channels are not supported; supported: multiples of {} "
          "up to {}",
          key_dim, kHeadDimMultiple, kMaxHeadDim));
    }
    params_.head_dim = key_dim;
    return {};
  }

  Status ReadVocabulary() {
    const std::string tokens_key = "tokenizer.ggml.tokens";
    const std::string size_key = keys_.Key("vocab_size");
    if (!file_.Has(tokens_key) && file_.Has(size_key)) {
      PKV_ASSIGN_OR_RETURN(params_.vocabulary,
                           file_.Int(size_key, 1, kMaxVocabulary));
      return {};
    }
    PKV_ASSIGN_OR_RETURN(const auto tokens, file_.Strings(tokens_key));
    if (tokens.empty() || tokens.size() > kMaxVocabulary) {
      return file_.Error(fmt::format("key {} has {} tokens, expected 1 to {}",
                                     tokens_key, tokens.size(),
                                     kMaxVocabulary));
    }
    params_.vocabulary = static_cast<int>(tokens.size());
    return {};
  }

  Status ReadAttention() {
    PKV_RETURN_IF_ERROR(ReadWindows());
    PKV_ASSIGN_OR_RETURN(const double scale,
                         keys_.FloatOr("attention.scale", 0, 0, kMaxFactor));
    const int width = params_.layers == architecture_.embedding_scale_layers
                          ? params_.embedding / params_.heads
                          : params_.head_dim;
    params_.attention_scale =
        scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(width));
    return {};
  }

  Status ReadWindows() {
    if (architecture_.windows == WindowUse::kIgnored) return {};
    PKV_ASSIGN_OR_RETURN(
        params_.sliding_window,
        keys_.IntOr("attention.sliding_window", 0, 0, kMostTokens));
    if (architecture_.windows != WindowUse::kPattern ||
        params_.sliding_window == 0) {
      return {};
    }
    PKV_ASSIGN_OR_RETURN(params_.window_layers, WindowPattern());
    const auto& flags = params_.window_layers;
    if (std::find(flags.begin(), flags.end(), false) == flags.end()) {
      params_.window_layers.clear();  // all have it
    }
    for (const char* name :
         {"attention.key_length_swa", "attention.value_length_swa"}) {
      PKV_RETURN_IF_ERROR(keys_.RefuseOtherSize(name, params_.head_dim));
    }
    return {};
  }

  // One flag per layer, or the distance between two layers without a window
  // (0: all have one).
  Result<std::vector<bool>> WindowPattern() const {
    const std::string key = keys_.Key("attention.sliding_window_pattern");
    if (file_.IsArray(key)) {
      PKV_ASSIGN_OR_RETURN(std::vector<bool> flags, file_.Flags(key));
      if (static_cast<int>(flags.size()) == params_.layers) return flags;
      return file_.Error(fmt::format(
          "key {} has {} values, expected one for each of {} layers", key,
          flags.size(), params_.layers));
    }
    PKV_ASSIGN_OR_RETURN(
        const int64_t every,
        keys_.IntOr("attention.sliding_window_pattern",
                    architecture_.global_every, 0, kMaxLayers));
    std::vector<bool> flags(params_.layers, true);
    for (int l = 0; l < params_.layers && every > 0; ++l) {
      flags[l] = l % every != every - 1;
    }
    return flags;
  }

  Status ReadEnds() {
    params_.block = architecture_.block;
    if (architecture_.scaled_embedding) {
      params_.embedding_scale =
          std::sqrt(static_cast<float>(params_.embedding));
    }
    if (!architecture_.final_softcap) return {};
    const char* cap = "final_logit_softcapping";
    PKV_ASSIGN_OR_RETURN(params_.final_softcap,
                         keys_.FloatOr(cap, 0, 0, kMaxFactor));
    if (params_.final_softcap == 0) return {};
    return keys_.Float(cap, kMinFactor, kMaxFactor).status();
  }

  const GgufFile& file_;
  const Architecture& architecture_;
  const KeyReader keys_;
  HyperParams params_;
};

}  // namespace

Result<HyperParams> ReadHyperParams(const GgufFile& file) {
  PKV_ASSIGN_OR_RETURN(const std::string name,
                       file.String("general.architecture"));
  const Architecture* architecture = FindArchitecture(name);
  if (architecture == nullptr) {
    return file.Error(
        fmt::format("architecture '{}' is not supported; supported: {}", name,
                    ArchitectureNames()));
  }
  return Reader(file, *architecture).Read();
}

Result<HyperParams> ReadHyperParams(const std::string& path) {
  PKV_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  return ReadHyperParams(*file);
}

}  // namespace pyramidkv
