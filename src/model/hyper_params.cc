#include "model/hyper_params.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "model/architecture.h"
#include "model/rope_scaling.h"

namespace pyramidkv {
namespace {

constexpr int kMaxLayers = 1024;
constexpr int kMaxHeads = 1024;
constexpr int kMaxHeadDim = 1024;
constexpr int kHeadDimMultiple = 8;  // what the attention kernels need
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr int kMaxContext = 1 << 30;
constexpr double kMinFactor = 1e-6;  // of what must not be zero
constexpr double kMaxFactor = 1e6;
constexpr double kMinEpsilon = 1e-12;
constexpr double kMinFrequencyBase = 1.001;
constexpr double kMaxFrequencyBase = 1e12;

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  Result<HyperParams> Read() {
    PKV_RETURN_IF_ERROR(ReadGeneral());
    PKV_RETURN_IF_ERROR(RefuseUnsupported());
    PKV_RETURN_IF_ERROR(ReadSizes());
    PKV_RETURN_IF_ERROR(ReadHeads());
    PKV_RETURN_IF_ERROR(ReadVocabulary());
    PKV_RETURN_IF_ERROR(ReadAttention());
    PKV_RETURN_IF_ERROR(ReadRope());
    return std::move(params_);
  }

 private:
  std::string Key(std::string_view name) const {
    return fmt::format("{}.{}", params_.architecture, name);
  }

  Result<int64_t> IntOr(const std::string& key, int64_t otherwise, int64_t min,
                        int64_t max) const {
    if (!file_.Has(key)) return otherwise;
    return file_.Int(key, min, max);
  }

  Result<double> FloatBetween(const std::string& key, double min,
                              double max) const {
    PKV_ASSIGN_OR_RETURN(const double value, file_.Float(key));
    if (value < min || value > max) {
      return file_.Error(
          fmt::format("key {} is {}, expected {} to {}", key, value, min, max));
    }
    return value;
  }

  Result<double> FloatOr(const std::string& key, double otherwise, double min,
                         double max) const {
    if (!file_.Has(key)) return otherwise;
    return FloatBetween(key, min, max);
  }

  Status ReadGeneral() {
    PKV_ASSIGN_OR_RETURN(params_.architecture,
                         file_.String("general.architecture"));
    architecture_ = FindArchitecture(params_.architecture);
    if (architecture_ == nullptr) {
      return file_.Error(
          fmt::format("architecture '{}' is not supported; supported: {}",
                      params_.architecture, ArchitectureNames()));
    }
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
                         IntOr(Key("expert_count"), 0, 0, kMaxWidth));
    if (experts > 0) {
      return file_.Error(fmt::format(
          "is a mixture of {} experts ({}); only dense models are supported",
          experts, Key("expert_count")));
    }
    for (const char* name :
         {"attn_logit_softcapping", "final_logit_softcapping"}) {
      PKV_RETURN_IF_ERROR(RefuseOtherThan(Key(name), 0));
    }
    for (const char* name :
         {"embedding_scale", "residual_scale", "logit_scale"}) {
      PKV_RETURN_IF_ERROR(RefuseOtherThan(Key(name), 1));
    }
    if (architecture_->windows == WindowUse::kAllLayers &&
        file_.Has(Key("attention.sliding_window_pattern"))) {
      return file_.Error(fmt::format(
          "key {} is not supported: all layers must have the same window",
          Key("attention.sliding_window_pattern")));
    }
    if (file_.Has(Key("attention.causal"))) {
      PKV_ASSIGN_OR_RETURN(const bool causal,
                           file_.Bool(Key("attention.causal")));
      if (!causal)
        return file_.Error(
            "attention that is not causal is not "
            "supported");
    }
    return {};
  }

  // Some writers store 0 for "not used".
  Status RefuseOtherThan(const std::string& key, double neutral) const {
    if (!file_.Has(key)) return {};
    PKV_ASSIGN_OR_RETURN(const double value, file_.Float(key));
    if (value == neutral || value == 0) return {};
    return file_.Error(
        fmt::format("key {} is {}; this is not supported", key, value));
  }

  Status ReadSizes() {
    PKV_ASSIGN_OR_RETURN(params_.layers,
                         file_.Int(Key("block_count"), 1, kMaxLayers));
    PKV_ASSIGN_OR_RETURN(params_.embedding,
                         file_.Int(Key("embedding_length"), 1, kMaxWidth));
    PKV_ASSIGN_OR_RETURN(params_.feed_forward,
                         file_.UniformInt(Key("feed_forward_length"),
                                          params_.layers, 1, kMaxWidth));
    PKV_ASSIGN_OR_RETURN(params_.context_length,
                         file_.Int(Key("context_length"), 1, kMaxContext));
    PKV_ASSIGN_OR_RETURN(
        params_.rms_epsilon,
        FloatBetween(Key("attention.layer_norm_rms_epsilon"), kMinEpsilon, 1));
    return {};
  }

  Status ReadHeads() {
    const std::string heads_key = Key("attention.head_count");
    PKV_ASSIGN_OR_RETURN(
        params_.heads,
        file_.UniformInt(heads_key, params_.layers, 1, kMaxHeads));
    params_.kv_heads = params_.heads;
    const std::string kv_key = Key("attention.head_count_kv");
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
    const std::string key = Key(name);
    if (file_.Has(key)) return file_.Int(key, 1, kMaxHeadDim);
    if (params_.embedding % params_.heads != 0) {
      return file_.Error(fmt::format(
          "{} ({}) is not a multiple of {} ({}), and there is no {}",
          Key("embedding_length"), params_.embedding,
          Key("attention.head_count"), params_.heads, key));
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
    const std::string size_key = Key("vocab_size");
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
    if (architecture_->windows != WindowUse::kIgnored) {
      PKV_ASSIGN_OR_RETURN(
          params_.sliding_window,
          IntOr(Key("attention.sliding_window"), 0, 0, kMaxContext));
    }
    PKV_ASSIGN_OR_RETURN(const double scale,
                         FloatOr(Key("attention.scale"), 0, 0, kMaxFactor));
    params_.attention_scale =
        scale != 0 ? scale : 1.0f / std::sqrt(float(params_.head_dim));
    return {};
  }

  Status ReadRope() {
    RopeScaling scaling;
    scaling.layout = architecture_->rope_layout;
    PKV_ASSIGN_OR_RETURN(scaling.dims,
                         IntOr(Key("rope.dimension_count"), params_.head_dim, 2,
                               params_.head_dim));
    if (scaling.dims % 2 != 0) {
      return file_.Error(fmt::format("key {} is {}, expected an even number",
                                     Key("rope.dimension_count"),
                                     scaling.dims));
    }
    PKV_ASSIGN_OR_RETURN(
        scaling.base, FloatOr(Key("rope.freq_base"), 10000, kMinFrequencyBase,
                              kMaxFrequencyBase));
    PKV_RETURN_IF_ERROR(ReadRopeScaling(&scaling));
    params_.rope = MakeRope(scaling);
    return {};
  }

  // llama.cpp's defaults: linear, by a factor of 1.
  Status ReadRopeScaling(RopeScaling* scaling) const {
    std::string type = "linear";
    const std::string type_key = Key("rope.scaling.type");
    if (file_.Has(type_key)) {
      PKV_ASSIGN_OR_RETURN(type, file_.String(type_key));
    }
    if (type != "none" && type != "linear" && type != "yarn") {
      return file_.Error(
          fmt::format("{} '{}' is not supported; supported: none, linear, yarn",
                      type_key, type));
    }
    std::string factor_key = Key("rope.scaling.factor");
    if (!file_.Has(factor_key)) factor_key = Key("rope.scale_linear");
    PKV_ASSIGN_OR_RETURN(const double factor,
                         FloatOr(factor_key, 0, 0, kMaxFactor));
    if (type != "none" && factor >= kMinFactor) scaling->factor = factor;
    PKV_ASSIGN_OR_RETURN(
        scaling->magnitude,
        FloatOr(Key("rope.scaling.attn_factor"), 1, kMinFactor, kMaxFactor));
    return ReadYarn(type == "yarn", scaling);
  }

  Status ReadYarn(bool yarn, RopeScaling* scaling) const {
    PKV_ASSIGN_OR_RETURN(scaling->original_context,
                         IntOr(Key("rope.scaling.original_context_length"),
                               params_.context_length, 0, kMaxContext));
    if (scaling->original_context == 0) {
      scaling->original_context = params_.context_length;
    }
    PKV_ASSIGN_OR_RETURN(
        const double mix,
        FloatOr(Key("rope.scaling.yarn_ext_factor"), -1, -kMaxFactor, 2));
    scaling->yarn_mix = mix < 0 ? (yarn ? 1 : 0) : mix;
    PKV_ASSIGN_OR_RETURN(const double magnitude,
                         FloatOr(Key("rope.scaling.yarn_attn_factor"), 1,
                                 kMinFactor, kMaxFactor));
    scaling->magnitude *= magnitude;
    PKV_ASSIGN_OR_RETURN(scaling->beta_fast,
                         FloatOr(Key("rope.scaling.yarn_beta_fast"), 32,
                                 kMinFactor, kMaxFactor));
    PKV_ASSIGN_OR_RETURN(
        scaling->beta_slow,
        FloatOr(Key("rope.scaling.yarn_beta_slow"), 1, kMinFactor, kMaxFactor));
    return {};
  }

  const GgufFile& file_;
  const Architecture* architecture_ = nullptr;
  HyperParams params_;
};

}  // namespace

Result<HyperParams> ReadHyperParams(const GgufFile& file) {
  return Reader(file).Read();
}

Result<HyperParams> ReadHyperParams(const std::string& path) {
  PKV_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
  return ReadHyperParams(*file);
}

}  // namespace pyramidkv
