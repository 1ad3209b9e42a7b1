#include "cli/eval_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "cli/inputs.h"
#include "cli/models.h"
#include "cli/output_check.h"

namespace pyramidkv::cli {
namespace {

constexpr int kMaxTrials = 100000;
constexpr int kMaxTokens = 1 << 24;

// The index of `word`, which is one of `names`; 0 for an empty one.
template <typename Names>
size_t IndexOf(const Names& names, std::string_view word) {
  const auto found = std::find(std::begin(names), std::end(names), word);
  return found == std::end(names) ? 0 : found - std::begin(names);
}

template <typename Names>
std::string Alternatives(const Names& names) {
  return fmt::format("{}", fmt::join(names, "|"));
}

// kUsage for the first flag that is given and that the task does not use.
Status CheckFlags(const EvalFlags& flags, EvalTask task) {
  const bool kl = task == EvalTask::kKl;
  const bool passkey = task == EvalTask::kPasskey;
  const struct {
    const char* name;
    bool given, used;
  } uses[] = {{"--variant", !flags.variant.empty(), passkey},
              {"--placement", !flags.placement.empty(), !kl},
              {"--depth", !flags.options.depths.empty(), !kl},
              {"--at-least", flags.at_least.has_value(), !kl},
              {"--score-tokens", flags.score_tokens.has_value(), kl},
              {"--file", !flags.text_file.empty(), kl},
              {"--max-kl", flags.max_kl.has_value(), kl}};
  for (const auto& use : uses) {
    if (use.given && !use.used) {
      return Status::Usage(
          fmt::format("{} does not apply to {}", use.name, flags.task));
    }
  }
  if (flags.at_least && *flags.at_least > flags.options.trials) {
    return Status::Usage(fmt::format("--at-least {} of {} trials",
                                     *flags.at_least, flags.options.trials));
  }
  if (!flags.out_file.empty() && !flags.resume_file.empty() &&
      flags.out_file != flags.resume_file) {
    return Status::Usage(
        "--resume goes on with its own file: leave out --out, or give the "
        "same file");
  }
  return {};
}

Status CheckEvalOutputs(const EvalFlags& flags) {
  const bool resumes = !flags.resume_file.empty();
  const PlannedOutput outputs[] = {
      {"--resume", flags.resume_file, OutputKind::kStudy, /*goes_on=*/true},
      {"--out", resumes ? "" : flags.out_file, OutputKind::kStudy},
      {"--kv-trace", flags.trace_file, OutputKind::kLines}};
  const PlannedInput inputs[] = {ModelInput(flags.model.path),
                                 {"--file", flags.text_file}};
  return CheckOutputs(outputs, inputs, flags.force);
}

CLI::Option* AddCount(CLI::App* app, const char* names, int* value,
                      const char* help, int high) {
  return app->add_option(names, *value, help)
      ->check(InRange(1, high))
      ->type_name("N")
      ->capture_default_str();
}

void AddTaskFlags(CLI::App* app, EvalFlags* flags) {
  const auto add_word = [&](const char* name, std::string* value,
                            const char* help, const std::string& words) {
    return app->add_option(name, *value, help)
        ->check(OneOf(words))
        ->type_name(words);
  };
  add_word("task", &flags->task, "The measurement",
           Alternatives(kEvalTaskNames))
      ->required();
  add_word("--variant", &flags->variant, "Kind of pass key [plain]",
           Alternatives(kEvalVariantNames));
  add_word("--placement", &flags->placement,
           "The compressed part: the context, the question too, or all but "
           "the last token [whole]",
           Alternatives(kEvalPlacementNames));
  AddCount(app, "--tokens", &flags->options.tokens, "Tokens of the context",
           kMaxTokens);
  AddCount(app, "--trials", &flags->options.trials, "How many", kMaxTrials);
  app->add_option("-s,--seed", flags->options.seed, "Seed of all texts")
      ->check(InRange(0, std::numeric_limits<uint32_t>::max()))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--depth", flags->options.depths,
                  "Where the fact stands, 0 to 1, in turn [spread evenly]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(InRange(0, 1))
      ->type_name("D,...");
  app->add_option("--score-tokens", flags->score_tokens,
                  "kl: tokens forced after the context [256]")
      ->check(InRange(1, kMaxTokens))
      ->type_name("N");
  app->add_option("-f,--file", flags->text_file, "kl: the text [generated]")
      ->type_name("FILE");
}

void AddResultFlags(CLI::App* app, EvalFlags* flags) {
  app->add_option("--at-least", flags->at_least,
                  "Exit with 3 if a cache has fewer right answers")
      ->check(InRange(1, kMaxTrials))
      ->type_name("N");
  app->add_option("--max-kl", flags->max_kl,
                  "kl: exit with 3 if a cache has a higher mean KL")
      ->check(InRange(0, 1e9))
      ->type_name("X");
  app->add_option("--out", flags->out_file,
                  "Write a JSON line for every trial and cache")
      ->type_name("FILE");
  app->add_option("--resume", flags->resume_file,
                  "Go on with such a file: only what is missing is run")
      ->type_name("FILE");
  app->add_option("--kv-trace", flags->trace_file,
                  "Write a JSON line for every compaction of a KV head")
      ->type_name("FILE");
  AddForce(app, &flags->force);
  AddJson(app, &flags->json);
}

}  // namespace

void AddEvalFlags(CLI::App* app, EvalFlags* flags) {
  AddTaskFlags(app, flags);
  AddModelFlags(app, &flags->model);
  AddCacheFlags(app, &flags->cache, true);
  AddResultFlags(app, flags);
}

Result<EvalOptions> ResolveEval(const EvalFlags& flags) {
  EvalOptions options = flags.options;
  options.task = static_cast<EvalTask>(IndexOf(kEvalTaskNames, flags.task));
  PKV_RETURN_IF_ERROR(CheckFlags(flags, options.task));
  PKV_RETURN_IF_ERROR(CheckEvalOutputs(flags));
  options.variant =
      static_cast<EvalVariant>(IndexOf(kEvalVariantNames, flags.variant));
  if (!flags.placement.empty()) {
    options.placement = static_cast<EvalPlacement>(
        IndexOf(kEvalPlacementNames, flags.placement));
  }
  if (flags.score_tokens) options.score_tokens = *flags.score_tokens;
  options.context_size = flags.model.context_size;
  PKV_ASSIGN_OR_RETURN(options.specs, ResolveSpecs(flags.cache));
  if (!flags.text_file.empty()) {
    PKV_ASSIGN_OR_RETURN(options.text, ReadFile(flags.text_file));
    if (options.text.empty()) {
      return Status::Usage(fmt::format("{} is empty", flags.text_file));
    }
  }
  return options;
}

}  // namespace pyramidkv::cli
