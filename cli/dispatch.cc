// From the words of the command line to the command that they name.

#include <fmt/format.h>

#include <algorithm>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/version.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

constexpr char kFooter[] =
    "Every long flag can also be given as $PYRAMIDKV_ARG_<FLAG>, for example "
    "PYRAMIDKV_ARG_CTX_SIZE.\n";

std::string Joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

std::vector<std::string> CommandNames(const CLI::App& root) {
  std::vector<std::string> names;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  return names;
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
    return Status::Usage(fmt::format(
        "\"{}\" belongs to no flag; a prompt is given as -p TEXT or "
        "-f FILE",
        root->remaining(true).front()));
  } catch (const CLI::ParseError& error) {
    std::string message = error.what();
    std::replace(message.begin(), message.end(), '\n', ' ');
    return Status::Usage(message);
  }
  return {};
}

// The words behind the command that the first one names.
Result<std::vector<std::string>> CommandWords(CLI::App& root,
                                              std::vector<std::string> args) {
  CLI::App* const command = FindCommand(root, args[0]);
  if (command == nullptr) {
    std::string hint = Suggestion(args[0], CommandNames(root));
    if (hint.empty()) hint = "; commands: " + Joined(CommandNames(root));
    return Status::Usage(
        fmt::format("unknown command \"{}\"{}", args[0], hint));
  }
  if (!command->get_group().empty()) BindEnvironment(command);
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  PKV_ASSIGN_OR_RETURN(std::vector<std::string> words,
                       TranslateArguments(root, *command, rest));
  words.insert(words.begin(), args[0]);
  return words;
}

// Flags without a command.
Status CheckRootFlag(const CLI::App& root, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  if (root.get_option_no_throw(name) != nullptr) return {};
  const CLI::App* run = root.get_subcommands({}).front();
  if (TranslateArguments(root, *run, {word}).ok()) {
    return Status::Usage(fmt::format(
        "{} belongs behind a command: pyramidkv {} {} ...; commands: {}", name,
        run->get_name(), name, Joined(CommandNames(root))));
  }
  return TranslateArguments(root, root, {word}).status();
}

struct RootFlags {
  bool version = false, bash = false, zsh = false, fish = false;
};

void AddRootFlags(CLI::App* root, RootFlags* flags) {
  root->add_flag("--version", flags->version,
                 "Print version, commit, kernels and libraries");
  root->add_flag("--completion-bash", flags->bash,
                 "Print a completion script for bash");
  root->add_flag("--completion-zsh", flags->zsh, "The same for zsh");
  root->add_flag("--completion-fish", flags->fish, "The same for fish");
}

// The text that one of the flags asks for; empty: none was given.
std::string RootText(const CLI::App& root, const RootFlags& flags) {
  if (flags.version) return VersionText();
  if (flags.bash) return BashCompletion(root, PresetNames());
  if (flags.zsh) return ZshCompletion(root, PresetNames());
  if (flags.fish) return FishCompletion(root, PresetNames());
  return "";
}

}  // namespace

Status Dispatch(std::vector<std::string> args) {
  CLI::App root("Long prompts in a fraction of the KV cache.", "pyramidkv");
  root.formatter(HelpFormat());  // before the commands, which inherit it
  root.footer(kFooter)->require_subcommand(0, 1);
  RootFlags flags;
  AddRootFlags(&root, &flags);
  const Command commands[] = {
      AddRunCommand(root),     AddChatCommand(root),   AddPlanCommand(root),
      AddBenchCommand(root),   AddEvalCommand(root),   AddSessionCommand(root),
      AddModelsCommand(root),  AddDoctorCommand(root), AddBenchRowCommand(root),
      AddVersionCommand(root), AddHelpCommand(root)};
  for (const Command& command : commands) ApplyRules(command.app);
  AddExamples(&root);

  if (!args.empty() && args[0].starts_with('-')) {
    PKV_RETURN_IF_ERROR(CheckRootFlag(root, args[0]));
  } else if (!args.empty()) {
    PKV_ASSIGN_OR_RETURN(args, CommandWords(root, std::move(args)));
  }
  bool help = false;
  PKV_RETURN_IF_ERROR(Parse(&root, std::move(args), &help));
  if (help) return WriteStdout(root.help());
  const std::string text = RootText(root, flags);
  if (!text.empty()) return WriteStdout(text);
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return Status::Usage(fmt::format("no command; commands: {} (see --help)",
                                   Joined(CommandNames(root))));
}

}  // namespace pyramidkv::cli
