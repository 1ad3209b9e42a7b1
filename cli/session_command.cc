// `pyramidkv session`: contexts that are stored once and answered from often.

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/run_command.h"
#include "cli/text_format.h"
#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {
namespace {

constexpr char kActions[] = "save|info|verify|ask";

struct SessionFlags {
  std::string action, file;
  RunFlags run;
};

std::string InfoText(const StoredSession& s) {
  std::vector<std::pair<std::string, std::string>> lines = {
      {"model", fmt::format("{} ({})", s.model, s.architecture)},
      {"cache", s.spec},
      {"compute", ComputeName(s.compute)},
      {"tokens", fmt::format("{} of {}", s.tokens, s.context_size)},
      {"entries", fmt::format("{} of {} ({})", s.entries, s.entries_full,
                              Percent(Share(s.entries, s.entries_full)))},
      {"memory",
       fmt::format("{} of {} in f16 ({})", MiB(s.bytes), MiB(s.bytes_full),
                   Percent(Share(s.bytes, s.bytes_full)))},
      {"file", MiB(s.file_bytes)},
      {"questions", s.question_aware
                        ? "aware: what stayed was chosen by the last rows"
                        : "agnostic: no question decided what stayed"},
      {"session", fmt::format("{}, generation {}, format {}", s.session,
                              s.generation, s.format_version)}};
  std::string text;
  for (const auto& [name, value] : lines) {
    text += fmt::format("{:<10} {}\n", name, value);
  }
  return text;
}

Status CheckFlags(const SessionFlags& flags) {
  const RunFlags& run = flags.run;
  const bool reads = flags.action == "save" || flags.action == "ask";
  const bool prompted =
      run.prompt || !run.prompt_file.empty() || !run.prompt_tokens_file.empty();
  if (!reads && (prompted || !run.save_file.empty())) {
    return Status::Usage(fmt::format(
        "session {} reads no prompt and saves nothing", flags.action));
  }
  if (flags.action == "save" && !run.save_file.empty()) {
    return Status::Usage("session save has one file: leave out --save-session");
  }
  return {};
}

Status Describe(const SessionFlags& flags) {
  const bool verify = flags.action == "verify";
  PKV_ASSIGN_OR_RETURN(
      const StoredSession stored,
      verify ? VerifyStoredSession(flags.file) : ReadStoredSession(flags.file));
  if (flags.run.json) return WriteStdout(Dump(StoredSessionJson(stored)));
  if (!verify) return WriteStdout(InfoText(stored));
  return WriteStdout(
      fmt::format("{}: ok, {} bytes\n", flags.file, stored.file_bytes));
}

Status RunSession(const SessionFlags& flags, bool length_given) {
  PKV_RETURN_IF_ERROR(CheckFlags(flags));
  RunFlags run = flags.run;
  if (flags.action == "save") {
    run.save_file = flags.file;
    if (!length_given) run.generation.predict = 0;
    return RunPrompt(run);
  }
  if (flags.action == "ask") {
    run.load_file = flags.file;
    return RunPrompt(run);
  }
  return Describe(flags);
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
  return {app, [flags, app] {
            return RunSession(*flags,
                              app->get_option("--predict")->count() > 0);
          }};
}

}  // namespace pyramidkv::cli
