#include "model/rope_keys.h"

#include <fmt/format.h>

#include <string>

#include "base/limits.h"
#include "model/rope_scaling.h"

namespace pyramidkv {
namespace {

constexpr double kMinFactor = 1e-6;
constexpr double kMaxFactor = 1e6;
constexpr double kDefaultBase = 10000;
constexpr double kMinBase = 1.001;
constexpr double kMaxBase = 1e12;

// llama.cpp's defaults: linear, by a factor of 1. Its keys of YaRN alone
// (rope.scaling.yarn_*) are of other architectures; a file that spells out what
// YaRN does by default is not to have it twice.
Status ReadScaling(const KeyReader& keys, const Architecture& architecture,
                   int context_length, RopeScaling* scaling) {
  std::string type = "linear";
  const std::string type_key = keys.Key("rope.scaling.type");
  if (keys.file().Has(type_key)) {
    PKV_ASSIGN_OR_RETURN(type, keys.file().String(type_key));
  }
  // Its factors are those of a tensor; what the keys say is as for linear.
  const bool longrope = architecture.rope_factors == RopeFactors::kShortOrLong;
  if (type != "none" && type != "linear" && type != "yarn" &&
      !(longrope && type == "longrope")) {
    return keys.file().Error(
        fmt::format("{} '{}' is not supported; supported: none, linear, yarn{}",
                    type_key, type, longrope ? ", longrope" : ""));
  }
  const char* factor_key = keys.Has("rope.scaling.factor")
                               ? "rope.scaling.factor"
                               : "rope.scale_linear";
  PKV_ASSIGN_OR_RETURN(const double factor,
                       keys.FloatOr(factor_key, 0, 0, kMaxFactor));
  if (type != "none" && factor >= kMinFactor) scaling->factor = factor;
  PKV_ASSIGN_OR_RETURN(
      scaling->magnitude,
      keys.FloatOr("rope.scaling.attn_factor", 1, kMinFactor, kMaxFactor));
  PKV_ASSIGN_OR_RETURN(scaling->original_context,
                       keys.IntOr("rope.scaling.original_context_length",
                                  context_length, 0, kMostTokens));
  if (scaling->original_context == 0) {
    scaling->original_context = context_length;
  }
  scaling->yarn = type == "yarn";
  return {};
}

// Layers with a window have a base of their own and are never scaled.
Status ReadLocal(const KeyReader& keys, RopeScaling scaling, Rope* rope) {
  PKV_RETURN_IF_ERROR(
      keys.RefuseOtherSize("rope.dimension_count_swa", scaling.dims));
  PKV_ASSIGN_OR_RETURN(
      scaling.base,
      keys.FloatOr("rope.freq_base_swa", kDefaultBase, kMinBase, kMaxBase));
  scaling.factor = 1;
  *rope = MakeRope(scaling);
  return {};
}

}  // namespace

Status ReadRope(const KeyReader& keys, const Architecture& architecture,
                HyperParams* params) {
  RopeScaling scaling;
  scaling.layout = architecture.rope_layout;
  PKV_ASSIGN_OR_RETURN(scaling.dims,
                       keys.IntOr("rope.dimension_count", params->head_dim, 2,
                                  params->head_dim));
  if (scaling.dims % 2 != 0) {
    return keys.file().Error(
        fmt::format("key {} is {}, expected an even number",
                    keys.Key("rope.dimension_count"), scaling.dims));
  }
  PKV_ASSIGN_OR_RETURN(
      scaling.base,
      keys.FloatOr("rope.freq_base", kDefaultBase, kMinBase, kMaxBase));
  PKV_RETURN_IF_ERROR(
      ReadScaling(keys, architecture, params->context_length, &scaling));
  params->original_context = scaling.original_context;
  params->rope = MakeRope(scaling);
  if (architecture.windows != WindowUse::kPattern) return {};
  return ReadLocal(keys, scaling, &params->rope_local);
}

}  // namespace pyramidkv
