#include "cli/json_output.h"

#include "pyramidkv/machine.h"

namespace pyramidkv::cli {
namespace {

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::optional<double> PerSecond(int64_t tokens, double ms) {
  if (tokens <= 0 || ms <= 0) return std::nullopt;
  return 1000.0 * static_cast<double>(tokens) / ms;
}

Json LayerJson(const KvLayerReport& layer) {
  return {{"layer", layer.layer},
          {"budget", OrNull(layer.budget)},
          {"kept", layer.kept},
          {"bytes", layer.bytes},
          {"retained_mass", OrNull(layer.retained_mass)}};
}

Json TierJson(const KvTierReport& tier) {
  return {{"index", tier.index},
          {"entries", tier.entries},
          {"bytes", tier.bytes},
          {"index_bytes", tier.index_bytes},
          {"file_bytes", tier.file_bytes},
          {"fetch_share", OrNull(tier.fetch_share)},
          {"hit_rate", OrNull(tier.hit_rate)},
          {"bytes_per_token", OrNull(tier.bytes_per_token)},
          {"read_ms", tier.read_ms},
          {"stall_ms", tier.stall_ms},
          {"overlap", OrNull(tier.overlap)}};
}

Json DimsJson(const PlanDims& dims) {
  return {
      {"layers", dims.layers},       {"kv_heads", dims.kv_heads},
      {"head_dim", dims.head_dim},   {"tokens", dims.tokens},
      {"sequences", dims.sequences}, {"sliding_window", dims.sliding_window}};
}

Json PlanTierJson(const std::optional<PlanTier>& tier) {
  if (!tier) return nullptr;
  return {{"entries", tier->entries},
          {"bytes", tier->bytes},
          {"index_bytes", tier->index_bytes},
          {"file_bytes", tier->file_bytes}};
}

Json CachePlanJson(const CachePlan& plan) {
  Json layers = Json::array();
  for (const PlanLayer& layer : plan.layers) {
    layers.push_back({{"layer", layer.layer},
                      {"budget", OrNull(layer.budget)},
                      {"bytes", layer.bytes}});
  }
  return {{"spec", plan.spec},
          {"layers", std::move(layers)},
          {"bytes", plan.bytes},
          {"bytes_full", plan.bytes_full},
          {"saved", plan.saved},
          {"warnings", plan.warnings},
          {"tier", PlanTierJson(plan.tier)}};
}

}  // namespace

Timings MakeTimings(double load_ms, double prefill_ms, int prompt_tokens,
                    const Generation& generation) {
  Timings t;
  t.load_ms = load_ms;
  t.prefill_ms = prefill_ms;
  t.prefill_tokens_per_s = PerSecond(prompt_tokens, prefill_ms);
  const int64_t steps = std::ssize(generation.tokens) - 1;
  if (steps >= 0) t.ttft_ms = prefill_ms + generation.first_token_ms;
  if (steps >= 1) {
    t.tpot_ms = generation.decode_ms / static_cast<double>(steps);
    t.decode_tokens_per_s = PerSecond(steps, generation.decode_ms);
  }
  return t;
}

Json KvJson(const KvReport& report) {
  Json layers = Json::array();
  for (const KvLayerReport& layer : report.layers) {
    layers.push_back(LayerJson(layer));
  }
  return {{"requested", report.requested},
          {"spec", report.spec},
          {"policy", report.policy},
          {"prefill", report.prefill},
          {"prefill_mass", OrNull(report.prefill_mass)},
          {"tokens_seen", report.tokens_seen},
          {"tokens_kept_mean", report.tokens_kept_mean},
          {"entries_kept", report.entries_kept},
          {"entries_full", report.entries_full},
          {"bytes", report.bytes},
          {"bytes_full", report.bytes_full},
          {"peak_bytes", report.peak_bytes},
          {"retained_mass", OrNull(report.retained_mass)},
          {"warnings", report.warnings},
          {"layers", std::move(layers)},
          {"tier", report.tier ? TierJson(*report.tier) : Json(nullptr)}};
}

Json TimingsJson(const Timings& t) {
  return {{"load_ms", t.load_ms},
          {"prefill_ms", t.prefill_ms},
          {"ttft_ms", OrNull(t.ttft_ms)},
          {"tpot_ms", OrNull(t.tpot_ms)},
          {"prefill_tokens_per_s", OrNull(t.prefill_tokens_per_s)},
          {"decode_tokens_per_s", OrNull(t.decode_tokens_per_s)}};
}

Json TokenIdsJson(const std::vector<GeneratedToken>& tokens) {
  Json ids = Json::array();
  for (const GeneratedToken& token : tokens) ids.push_back(token.id);
  return ids;
}

Json LogprobsJson(const std::vector<GeneratedToken>& tokens) {
  Json all = Json::array();
  for (const GeneratedToken& token : tokens) {
    Json top = Json::array();
    for (const TokenLogprob& other : token.top) {
      top.push_back({{"id", other.id}, {"logprob", other.logprob}});
    }
    all.push_back({{"id", token.id},
                   {"logprob", token.logprob},
                   {"top", std::move(top)}});
  }
  return all;
}

Json PlanJson(const PlanDims& dims, const std::vector<CachePlan>& plans) {
  Json caches = Json::array();
  for (const CachePlan& plan : plans) caches.push_back(CachePlanJson(plan));
  return {{"dims", DimsJson(dims)}, {"caches", std::move(caches)}};
}

namespace {

Json StoredLayersJson(const StoredSession& s) {
  Json layers = Json::array();
  for (size_t l = 0; l < s.layers.size(); ++l) {
    const StoredLayer& layer = s.layers[l];
    layers.push_back({{"layer", l}, {"kept", layer.kept}});
    if (s.tier) layers.back()["cold"] = layer.cold;
    layers.back()["bytes"] = layer.bytes;
  }
  return layers;
}

Json StoredTierJson(const StoredTier& tier) {
  return {{"index", tier.index},
          {"entries", tier.entries},
          {"block_bytes", tier.block_bytes},
          {"index_bytes", tier.index_bytes}};
}

}  // namespace

Json StoredSessionJson(const StoredSession& s) {
  return {{"model", s.model},
          {"architecture", s.architecture},
          {"compute", ComputeName(s.compute)},
          {"requested", s.requested},
          {"spec", s.spec},
          {"policy", s.policy},
          {"question_aware", s.question_aware},
          {"tokens", s.tokens},
          {"context_size", s.context_size},
          {"entries", s.entries},
          {"entries_full", s.entries_full},
          {"bytes", s.bytes},
          {"hot_bytes", s.hot_bytes},
          {"bytes_full", s.bytes_full},
          {"file_bytes", s.file_bytes},
          {"layers", StoredLayersJson(s)},
          {"tier", s.tier ? StoredTierJson(*s.tier) : Json(nullptr)},
          {"session", s.session},
          {"generation", s.generation},
          {"format_version", s.format_version}};
}

Json MachineJson() {
  const MachineInfo machine = DescribeMachine();
  return {{"cpu", machine.cpu},
          {"processors", machine.processors},
          {"memory_bytes", machine.memory_bytes}};
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace pyramidkv::cli
