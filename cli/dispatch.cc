// From the words of the command line to the command that they name.

#include <fmt/format.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/completion.h"
#include "cli/options.h"
#include "cli/output.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

constexpr char kFooter[] =
    "Every long flag can also be given as $PYRAMIDKV_ARG_<FLAG>, for example "
    "PYRAMIDKV_ARG_CTX_SIZE.";

std::string CommandNames(const CLI::App& root) {
  std::vector<std::string> names;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

CLI::App* FindCommand(CLI::App& root, const std::string& name) {
  for (CLI::App* command : root.get_subcommands({})) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

// Parses; the Status has CLI11's message on one line. `help` is set where
// help was asked for.
Status Parse(CLI::App* root, std::vector<std::string> args, bool* help) {
  std::reverse(args.begin(), args.end());  // as CLI11 wants them
  try {
    root->parse(std::move(args));
  } catch (const CLI::CallForHelp&) {
    *help = true;
  } catch (const CLI::ExtrasError&) {
    return Status::Usage(fmt::format("unknown flag or argument {}",
                                     root->remaining(true).front()));
  } catch (const CLI::ParseError& error) {
    std::string message = error.what();
    std::replace(message.begin(), message.end(), '\n', ' ');
    return Status::Usage(message);
  }
  return {};
}

}  // namespace

Status Dispatch(std::vector<std::string> args) {
  CLI::App root("Long prompts in a fraction of the KV cache.", "pyramidkv");
  root.footer(kFooter)->require_subcommand(0, 1);
  bool version = false;
  bool completion = false;
  root.add_flag("--version", version, "Print the version");
  root.add_flag("--completion-bash", completion,
                "Print a completion script for bash");
  const Command commands[] = {AddRunCommand(root),     AddChatCommand(root),
                              AddPlanCommand(root),    AddBenchCommand(root),
                              AddEvalCommand(root),    AddSessionCommand(root),
                              AddBenchRowCommand(root)};

  if (!args.empty() && !args[0].starts_with('-')) {
    CLI::App* command = FindCommand(root, args[0]);
    if (command == nullptr) {
      return Status::Usage(fmt::format("unknown command \"{}\"; commands: {}",
                                       args[0], CommandNames(root)));
    }
    if (!command->get_group().empty()) BindEnvironment(command);
    args = ExpandShortNames(*command, std::move(args));
  }
  bool help = false;
  PKV_RETURN_IF_ERROR(Parse(&root, std::move(args), &help));
  if (help) return WriteStdout(root.help());
  if (version) {
    return WriteStdout(fmt::format("pyramidkv {}\n", PYRAMIDKV_VERSION));
  }
  if (completion) return WriteStdout(BashCompletion(root, PresetNames()));
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return Status::Usage(
      fmt::format("no command; commands: {} (see --help)", CommandNames(root)));
}

}  // namespace pyramidkv::cli
