// A compressor's state, to be stored and back.

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/compressor.h"

namespace pyramidkv {
namespace {

constexpr int kMostSteps = 1 << 30;  // far from where counting would overflow

Status Bad(const char* what) {
  return Status::Model(std::string("damaged: ") + what);
}

bool IsProfile(const HeadProfile& profile, int layers, int kv_heads) {
  return profile.layers == layers && profile.kv_heads == kv_heads &&
         profile.gate.size() == size_t(layers) * kv_heads &&
         std::all_of(profile.gate.begin(), profile.gate.end(),
                     [](double g) { return g >= 0 && g <= 1; });
}

}  // namespace

CompressorState Compressor::Export() const {
  CompressorState state;
  state.prompt_end = prompt_end_;
  state.tokens = tokens_;
  state.step = step_;
  state.retained = retained_;
  state.profile = profile_;
  state.queries = observer_.ExportQueries();
  state.statistics = observer_.ExportStatistics();
  return state;
}

Status Compressor::Import(CompressorState state) {
  Reset();
  if (state.prompt_end < 0 || state.tokens < state.prompt_end ||
      state.step < 0 || state.step > kMostSteps ||
      state.retained.size() != retained_.size()) {
    return Bad("the state of the compression does not fit the model");
  }
  const bool profiled = spec_.budget.heads == HeadSplit::kProfile;
  if (profiled != state.profile.has_value() ||
      (profiled &&
       !IsProfile(*state.profile, plan_->compressed(), plan_->kv_heads()))) {
    return Bad("the profile of the heads does not fit the model");
  }
  PKV_RETURN_IF_ERROR(
      observer_.Import(state.queries, std::move(state.statistics)));
  profile_ = std::move(state.profile);
  if (state.prompt_end > 0) {
    PKV_RETURN_IF_ERROR(Begin(state.prompt_end, state.prompt_end));
  }
  round_.reset();
  tokens_ = state.tokens;
  step_ = state.step;
  retained_ = std::move(state.retained);
  return {};
}

}  // namespace pyramidkv
