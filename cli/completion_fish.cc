#include <fmt/format.h>

#include "cli/completion.h"
#include "cli/completion_words.h"

namespace pyramidkv::cli {
namespace {

std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

// "-s m", "-l model", "-o ctk"
std::string NameFlag(const std::string& name) {
  if (name.starts_with("--")) return "-l " + name.substr(2);
  return (name.size() == 2 ? "-s " : "-o ") + name.substr(1);
}

std::string ValueFlags(const std::string& type,
                       const std::vector<std::string>& policies) {
  if (type == "FILE" || type == "DIR") return " -r -F";
  const std::string words = ValueWords(type, policies);
  return words.empty() ? " -x" : " -x -a " + Quoted(words);
}

std::string Lines(const CLI::App& app, const std::string& condition,
                  const std::vector<std::string>& policies) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    const std::string line =
        fmt::format("complete -c pyramidkv -n {}", Quoted(condition));
    if (option->get_positional()) {
      text += type == "FILE"
                  ? line + " -F\n"
                  : fmt::format("{} -a {}\n", line, Quoted(Alternatives(type)));
      continue;
    }
    std::string names;
    for (const std::string& name : Spellings(*option)) {
      names += " " + NameFlag(name);
    }
    const bool takes = option->get_items_expected_max() > 0;
    text += fmt::format("{}{}{} -d {}\n", line, names,
                        takes ? ValueFlags(type, policies) : "",
                        Quoted(option->get_description()));
  }
  return text;
}

}  // namespace

std::string FishCompletion(const CLI::App& root,
                           const std::vector<std::string>& policies) {
  constexpr char kNone[] = "__fish_use_subcommand";
  std::string text =
      "# fish completion for pyramidkv\n"
      "complete -c pyramidkv -f\n";
  for (const CLI::App* command : ShownCommands(root)) {
    text +=
        fmt::format("complete -c pyramidkv -n {} -a {} -d {}\n", kNone,
                    command->get_name(), Quoted(command->get_description()));
  }
  text += Lines(root, kNone, policies);
  for (const CLI::App* command : ShownCommands(root)) {
    text +=
        Lines(*command, "__fish_seen_subcommand_from " + command->get_name(),
              policies);
  }
  return text;
}

}  // namespace pyramidkv::cli
