// A compressor's state, to be stored and back.

#include <algorithm>
#include <cmath>

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
  state.queries.resize(layers_);
  for (int l = 0; spec_.evicts_decoded() && l < layers_; ++l) {
    const size_t values = ring_.count(l) * ring_.width();
    state.queries[l].assign(ring_.rows(l), ring_.rows(l) + values);
  }
  for (const QueryStatistics& s : statistics_) {
    state.statistics.push_back(s.Export());
  }
  return state;
}

Status Compressor::Import(CompressorState state) {
  Reset();
  if (state.prompt_end < 0 || state.tokens < state.prompt_end ||
      state.step < 0 || state.step > kMostSteps ||
      state.retained.size() != retained_.size() ||
      state.queries.size() != size_t(layers_) ||
      state.statistics.size() != statistics_.size()) {
    return Bad("the state of the compression does not fit the model");
  }
  const bool profiled = spec_.heads == HeadSplit::kProfile;
  if (profiled != state.profile.has_value() ||
      (profiled &&
       !IsProfile(*state.profile, compressible_layers(), kv_heads_))) {
    return Bad("the profile of the heads does not fit the model");
  }
  for (int l = 0; l < layers_; ++l) {
    const std::vector<float>& q = state.queries[l];
    const size_t width = ring_.width();
    if (q.size() % width != 0 || q.size() / width > ring_.most_rows()) {
      return Bad("more queries than the policy looks at");
    }
    if (!q.empty()) {
      ring_.Add(l, q.data(), static_cast<int>(q.size() / width));
    }
  }
  for (size_t l = 0; l < statistics_.size(); ++l) {
    if (!statistics_[l].Import(std::move(state.statistics[l]))) {
      return Bad("statistics of the queries do not fit the model");
    }
  }
  profile_ = std::move(state.profile);
  if (state.prompt_end > 0) {
    PKV_RETURN_IF_ERROR(Begin(state.prompt_end, state.prompt_end));
  }
  global_.reset();
  tokens_ = state.tokens;
  step_ = state.step;
  retained_ = std::move(state.retained);
  return {};
}

}  // namespace pyramidkv
