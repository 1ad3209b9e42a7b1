#include "cli/completion.h"

#include <fmt/format.h>

#include "cli/completion_words.h"

namespace pyramidkv::cli {
namespace {

constexpr char kHead[] = R"(# bash completion for pyramidkv
_pyramidkv() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  local command=${COMP_WORDS[1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    command=
  fi
  case "$command:$prev" in
)";

constexpr char kMiddle[] = R"(  esac
  local words=
  case "$command" in
)";

constexpr char kTail[] = R"(  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _pyramidkv pyramidkv
)";

// The bash statement that completes the option's value.
std::string ValueStatement(const std::string& type,
                           const std::vector<std::string>& policies) {
  if (type == "FILE") return "COMPREPLY=($(compgen -f -- \"$cur\"))";
  const std::string words = ValueWords(type, policies);
  if (words.empty()) return ":";  // nothing to offer
  return fmt::format("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", words);
}

std::string ValueCases(const CLI::App& command,
                       const std::vector<std::string>& policies) {
  std::string text;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0) continue;  // takes no value
    if (option->get_positional()) continue;               // see FlagWords
    std::vector<std::string> patterns;
    for (const std::string& name : Spellings(*option)) {
      patterns.push_back(command.get_name() + ":" + name);
    }
    text += fmt::format("    {}) {}; return ;;\n", fmt::join(patterns, "|"),
                        ValueStatement(option->get_type_name(), policies));
  }
  return text;
}

// The flags, and before them what an argument without a flag may be.
std::string FlagWords(const CLI::App& command) {
  std::vector<std::string> words;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional() && option->get_type_name() != "FILE") {
      words.insert(words.begin(), Alternatives(option->get_type_name()));
    }
    for (const std::string& name : Spellings(*option)) words.push_back(name);
  }
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

std::string BashCompletion(const CLI::App& root,
                           const std::vector<std::string>& policies) {
  std::string values, flags, names;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (command->get_group().empty()) continue;
    values += ValueCases(*command, policies);
    flags += fmt::format("    {}) words=\"{}\" ;;\n", command->get_name(),
                         FlagWords(*command));
    names += command->get_name() + " ";
  }
  flags += fmt::format("    '') words=\"{}{}\" ;;\n", names, FlagWords(root));
  return kHead + values + kMiddle + flags + kTail;
}

}  // namespace pyramidkv::cli
