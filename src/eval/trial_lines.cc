// Trials as JSON lines: what a run leaves behind and resumes from.

#include <fmt/format.h>

#include <cstdint>

#include "eval/prompts.h"
#include "nlohmann/json.hpp"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

using Json = nlohmann::ordered_json;

template <typename Names, typename Enum>
std::string_view NameOf(const Names& names, Enum value) {
  return names[static_cast<size_t>(value)];
}

// FNV-1a: whether two texts are the same, not whether somebody meant harm.
uint64_t Fingerprint(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

// All that results depend on but the spec and the trial.
Json SetupJson(const Engine& engine, const EvalOptions& o) {
  Json json = {{"task", NameOf(kEvalTaskNames, o.task)},
               {"model", engine.info().name},
               {"model_bytes", engine.info().file_bytes},
               {"compute", ComputeName(engine.compute())},
               {"tokens", o.tokens},
               {"seed", o.seed}};
  if (o.task == EvalTask::kKl) {
    json["score_tokens"] = o.score_tokens;
    json["text"] = o.text.empty() ? std::string("generated")
                                  : fmt::format("{:016x}", Fingerprint(o.text));
    return json;
  }
  if (o.task == EvalTask::kPasskey) {
    json["variant"] = NameOf(kEvalVariantNames, o.variant);
  }
  json["placement"] = NameOf(kEvalPlacementNames, o.placement);
  return json;
}

// Whether `line` has all of `setup`, in any order.
bool HasSetup(const Json& line, const Json& setup) {
  for (const auto& [key, value] : setup.items()) {
    const auto found = line.find(key);
    if (found == line.end() || *found != value) return false;
  }
  return true;
}

void AddResult(const EvalTrial& trial, Json* json) {
  Json& line = *json;
  if (!trial.divergence) {
    line["depth"] = trial.depth;
    line["expected"] = trial.expected;
    line["answer"] = trial.answer;
    line["right"] = trial.right;
    return;
  }
  line["mean_kl"] = trial.divergence->mean_kl;
  line["max_kl"] = trial.divergence->max_kl;
  line["top1_agreement"] = trial.divergence->top1_agreement;
  line["nll"] = trial.divergence->nll;
  line["nll_full"] = trial.divergence->nll_full;
}

// Throws nlohmann's exceptions where a key is missing or of another type.
EvalTrial ReadTrial(const Json& line) {
  EvalTrial trial;
  line.at("spec").get_to(trial.spec);
  line.at("trial").get_to(trial.trial);
  line.at("kv_bytes").get_to(trial.kv_bytes);
  line.at("kv_bytes_full").get_to(trial.kv_bytes_full);
  const Json& mass = line.at("retained_mass");
  if (!mass.is_null()) trial.retained_mass = mass.get<double>();
  line.at("warnings").get_to(trial.warnings);
  line.at("context_tokens").get_to(trial.context_tokens);
  line.at("scored_tokens").get_to(trial.scored_tokens);
  if (!line.contains("mean_kl")) {
    line.at("depth").get_to(trial.depth);
    line.at("expected").get_to(trial.expected);
    line.at("answer").get_to(trial.answer);
    line.at("right").get_to(trial.right);
    return trial;
  }
  EvalDivergence& divergence = trial.divergence.emplace();
  line.at("mean_kl").get_to(divergence.mean_kl);
  line.at("max_kl").get_to(divergence.max_kl);
  line.at("top1_agreement").get_to(divergence.top1_agreement);
  line.at("nll").get_to(divergence.nll);
  line.at("nll_full").get_to(divergence.nll_full);
  return trial;
}

}  // namespace

std::string FormatEvalTrial(const Engine& engine, const EvalOptions& options,
                            const EvalTrial& trial) {
  Json json = SetupJson(engine, options);
  json["spec"] = trial.spec;
  json["trial"] = trial.trial;
  AddResult(trial, &json);
  json["kv_bytes"] = trial.kv_bytes;
  json["kv_bytes_full"] = trial.kv_bytes_full;
  json["retained_mass"] =
      trial.retained_mass ? Json(*trial.retained_mass) : Json(nullptr);
  json["warnings"] = trial.warnings;
  json["context_tokens"] = trial.context_tokens;
  json["scored_tokens"] = trial.scored_tokens;
  // An answer may end inside of a character.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<EvalTrial>> ParseEvalTrials(const Engine& engine,
                                               const EvalOptions& options,
                                               std::string_view lines) {
  const Json setup = SetupJson(engine, options);
  std::vector<EvalTrial> trials;
  int number = 0;
  for (size_t end = 0; (end = lines.find('\n')) != lines.npos;) {
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    ++number;
    try {
      const Json json = Json::parse(line);
      if (!HasSetup(json, setup)) continue;
      EvalTrial trial = ReadTrial(json);
      const bool answers = !trial.divergence.has_value();
      if (answers && trial.depth != DepthOfTrial(options, trial.trial)) {
        continue;
      }
      trials.push_back(std::move(trial));
    } catch (const Json::exception&) {
      return Status::Usage(
          fmt::format("line {} is not the result of a trial", number));
    }
  }
  return trials;
}

}  // namespace pyramidkv
