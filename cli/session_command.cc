// `pyramidkv session`: contexts that are stored once and answered from often.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/json_output.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/run_command.h"
#include "cli/text_format.h"
#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {
namespace {

constexpr char kActions[] = "save|info|verify|ask";

struct SessionFlags {
  std::string action, file, questions_file;
  RunFlags run;
};

std::string Questions(const StoredSession& s) {
  if (!s.question_aware) return "agnostic: no question decided what stayed";
  return s.tier
             ? "aware: what is hot was chosen by the last rows, the rest can "
               "be recalled"
             : "aware: what stayed was chosen by the last rows";
}

std::string Spread(const StoredSession& s) {
  int least = s.tokens, most = 0;
  for (const StoredLayer& layer : s.layers) {
    for (int n : layer.kept) {
      least = std::min(least, n);
      most = std::max(most, n);
    }
  }
  return fmt::format("{} to {} entries in a KV head of {} layers", least, most,
                     s.layers.size());
}

std::string InfoText(const StoredSession& s) {
  std::vector<std::pair<std::string, std::string>> lines = {
      {"model", fmt::format("{} ({})", s.model, s.architecture)},
      {"cache", s.spec},
      {"compute", ComputeName(s.compute)},
      {"tokens", fmt::format("{} of {}", s.tokens, s.context_size)},
      {"entries", fmt::format("{} of {} ({})", s.entries, s.entries_full,
                              Percent(Share(s.entries, s.entries_full)))},
      {"heads", Spread(s)},
      {"memory",
       fmt::format("{} of {} in f16 ({})", MiB(s.bytes), MiB(s.bytes_full),
                   Percent(Share(s.bytes, s.bytes_full)))}};
  if (s.tier) {
    lines.emplace_back("hot", MiB(s.hot_bytes));
    lines.emplace_back("cold",
                       fmt::format("{} entries, {}, and {} of their index ({})",
                                   s.tier->entries, MiB(s.tier->block_bytes),
                                   MiB(s.tier->index_bytes), s.tier->index));
  }
  lines.emplace_back("file", MiB(s.file_bytes));
  lines.emplace_back("questions", Questions(s));
  lines.emplace_back("session",
                     fmt::format("{}, generation {}, format {}", s.session,
                                 s.generation, s.format_version));
  std::string text;
  for (const auto& [name, value] : lines) {
    text += fmt::format("{:<10} {}\n", name, value);
  }
  return text;
}

Status CheckFlags(const SessionFlags& flags) {
  const RunFlags& run = flags.run;
  const bool reads = flags.action == "save" || flags.action == "ask";
  const bool prompted = run.prompt.question || !run.prompt.files.empty() ||
                        !run.prompt_tokens_file.empty();
  if (!reads && (prompted || !run.save_file.empty())) {
    return Status::Usage(fmt::format(
        "session {} reads no prompt and saves nothing", flags.action));
  }
  if (flags.action == "save" && !run.save_file.empty()) {
    return Status::Usage("session save has one file: leave out --save-session");
  }
  if (flags.questions_file.empty()) return {};
  if (flags.action != "ask") {
    return Status::Usage("--questions are asked: session ask FILE");
  }
  if (prompted || !run.force_tokens_file.empty() || !run.save_file.empty() ||
      !run.trace_file.empty() || !run.logits_file.empty()) {
    return Status::Usage(
        "--questions is all that is asked: leave out prompts, --force-tokens, "
        "--save-session, --kv-trace and --logits");
  }
  return {};
}

// The lines that are not empty.
Result<std::vector<std::string>> ReadQuestions(const std::string& path) {
  PKV_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::vector<std::string> questions;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) questions.push_back(std::move(line));
  }
  if (questions.empty()) {
    return Status::Usage(fmt::format("{} holds no question", path));
  }
  return questions;
}

// Whether the model of the session is here: the one that -m names has to be it,
// the default may be another one.
Result<bool> HasModel(const SessionFlags& flags, const StoredSession& stored) {
  if (!flags.run.model.path.empty()) return true;
  const Result<std::string> path = ResolveModelPath("");
  if (!path.ok()) return false;
  PKV_ASSIGN_OR_RETURN(const ModelInfo info, ReadModelInfo(*path));
  return info.name == stored.model;
}

// The check that `ask` makes.
Status CheckWithModel(const SessionFlags& flags) {
  ModelFlags model = flags.run.model;
  model.compute = ComputeName(Compute::kF32);  // no weights to make ready
  PKV_ASSIGN_OR_RETURN(const EngineOptions options, ResolveEngine(model));
  PKV_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       Engine::Load(options));
  return engine->LoadSession(flags.file, {.context_size = model.context_size})
      .status();
}

Status Verify(const SessionFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const StoredSession stored,
                       VerifyStoredSession(flags.file));
  PKV_ASSIGN_OR_RETURN(const bool has_model, HasModel(flags, stored));
  if (has_model) {
    PKV_RETURN_IF_ERROR(CheckWithModel(flags));
  } else {
    LogLine(
        fmt::format("warning: its model, {}, is not here: checksums alone "
                    "were checked; give the model with -m FILE",
                    stored.model));
  }
  if (flags.run.json) return WriteStdout(Dump(StoredSessionJson(stored)));
  return WriteStdout(
      fmt::format("{}: ok, {} bytes\n", flags.file, stored.file_bytes));
}

Status Describe(const SessionFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const StoredSession stored,
                       ReadStoredSession(flags.file));
  return WriteStdout(flags.run.json ? Dump(StoredSessionJson(stored))
                                    : InfoText(stored));
}

Status RunSession(const SessionFlags& flags, bool length_given) {
  PKV_RETURN_IF_ERROR(CheckFlags(flags));
  RunFlags run = flags.run;
  if (flags.action == "save") {
    run.save_file = flags.file;
    run.save_name = "session save";
    if (!length_given) run.generation.predict = 0;
    return RunPrompt(run);
  }
  if (flags.action == "ask") {
    run.load_file = flags.file;
    if (flags.questions_file.empty()) return RunPrompt(run);
    PKV_ASSIGN_OR_RETURN(const std::vector<std::string> questions,
                         ReadQuestions(flags.questions_file));
    return RunQuestions(run, questions);
  }
  return flags.action == "verify" ? Verify(flags) : Describe(flags);
}

}  // namespace

Command AddSessionCommand(CLI::App& root) {
  auto flags = std::make_shared<SessionFlags>();
  CLI::App* app =
      root.add_subcommand("session", "Stored contexts to answer from");
  app->add_option("action", flags->action,
                  "save a prompt's context; info: what is inside; verify "
                  "every byte; ask it a question")
      ->required()
      ->check(OneOf(kActions))
      ->type_name(kActions);
  app->add_option("file", flags->file, "The session's file")
      ->required()
      ->type_name("FILE");
  AddRunFlags(app, &flags->run);
  AddSaveSession(app, &flags->run.save_file);
  app->add_option("--questions", flags->questions_file,
                  "ask: file with a question in each line, all of which the "
                  "context answers as it was stored")
      ->type_name("FILE");
  return {app, [flags, app] {
            return RunSession(*flags,
                              app->get_option("--predict")->count() > 0);
          }};
}

}  // namespace pyramidkv::cli
