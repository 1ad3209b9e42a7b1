#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "llama.h"
#include "text/text.h"

namespace pyramidkv {
namespace {

struct SamplerDeleter {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using ChainPtr = std::unique_ptr<llama_sampler, SamplerDeleter>;

// The penalties keep this many tokens in memory; more is no use to a context.
constexpr int kMaxLastN = 1 << 20;

bool HasPenalties(const SamplingOptions& o) {
  return o.repeat_last_n > 0 &&
         (o.repeat_penalty != 1.0f || o.presence_penalty != 0.0f ||
          o.frequency_penalty != 0.0f);
}

Status CheckOptions(const SamplingOptions& o) {
  const auto wrong = [](const char* name, auto value, const char* want) {
    return Status::Usage(
        fmt::format("{} is {}; it must be {}", name, value, want));
  };
  if (!std::isfinite(o.temp)) return wrong("temp", o.temp, "finite");
  if (!(o.top_p >= 0 && o.top_p <= 1)) {
    return wrong("top_p", o.top_p, "0 to 1");
  }
  if (!(o.min_p >= 0 && o.min_p <= 1)) {
    return wrong("min_p", o.min_p, "0 to 1");
  }
  if (!(o.repeat_penalty > 0) || !std::isfinite(o.repeat_penalty)) {
    return wrong("repeat_penalty", o.repeat_penalty, "above 0");
  }
  if (o.repeat_last_n < 0) {
    return wrong("repeat_last_n", o.repeat_last_n, "0 or more");
  }
  if (!std::isfinite(o.presence_penalty)) {
    return wrong("presence_penalty", o.presence_penalty, "finite");
  }
  if (!std::isfinite(o.frequency_penalty)) {
    return wrong("frequency_penalty", o.frequency_penalty, "finite");
  }
  return {};
}

int HighestLowestId(std::span<const float> logits) {
  // max_element returns the first of equals.
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) -
                          logits.begin());
}

}  // namespace

struct Sampler::Impl {
  bool greedy = false;
  bool penalties = false;
  int vocabulary = 0;
  ChainPtr chain;  // penalties and, unless greedy, filters and the choice
  std::vector<llama_token_data> candidates;  // [vocabulary], reused

  // Runs the chain over all of `logits`; the result lives in `candidates`.
  llama_token_data_array Apply(std::span<const float> logits) {
    candidates.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
    }
    llama_token_data_array array{candidates.data(), candidates.size(), -1,
                                 false};
    llama_sampler_apply(chain.get(), &array);
    return array;
  }
};

Sampler::Sampler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sampler::~Sampler() = default;

Result<std::unique_ptr<Sampler>> Sampler::Make(const SamplingOptions& options,
                                               const Tokenizer& tokenizer) {
  PKV_RETURN_IF_ERROR(CheckOptions(options));
  auto impl = std::make_unique<Impl>();
  impl->greedy = options.temp <= 0;
  impl->penalties = HasPenalties(options);
  impl->vocabulary = tokenizer.vocabulary();
  llama_sampler_chain_params params = llama_sampler_chain_default_params();
  params.no_perf = true;
  impl->chain.reset(llama_sampler_chain_init(params));
  const auto add = [&](llama_sampler* s) {
    llama_sampler_chain_add(impl->chain.get(), s);
  };
  if (impl->penalties) {
    add(llama_sampler_init_penalties(
        impl->vocabulary, std::min(options.repeat_last_n, kMaxLastN),
        options.repeat_penalty, options.frequency_penalty,
        options.presence_penalty));
  }
  if (!impl->greedy) {  // llama.cpp's order
    add(llama_sampler_init_top_k(options.top_k));
    add(llama_sampler_init_top_p(options.top_p, 1));
    add(llama_sampler_init_min_p(options.min_p, 1));
    add(llama_sampler_init_temp(options.temp));
    add(llama_sampler_init_dist(options.seed));
  }
  return std::unique_ptr<Sampler>(new Sampler(std::move(impl)));
}

int Sampler::Sample(std::span<const float> logits) {
  int token;
  if (impl_->greedy && !impl_->penalties) {
    token = HighestLowestId(logits);
  } else {
    const llama_token_data_array chosen = impl_->Apply(logits);
    if (impl_->greedy) {
      // Penalties change logits in place and keep the order.
      const auto highest = std::max_element(
          chosen.data, chosen.data + chosen.size,
          [](const auto& a, const auto& b) { return a.logit < b.logit; });
      token = highest->id;
    } else {
      token = chosen.data[chosen.selected].id;
    }
  }
  Accept(token);
  return token;
}

void Sampler::Accept(int token) {
  if (token < 0 || token >= impl_->vocabulary) return;
  llama_sampler_accept(impl_->chain.get(), token);
}

}  // namespace pyramidkv
