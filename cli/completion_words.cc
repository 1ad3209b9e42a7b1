#include "cli/completion_words.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/arguments.h"

namespace pyramidkv::cli {

std::vector<std::string> Spellings(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& s : option.get_snames()) names.push_back("-" + s);
  for (const std::string& l : option.get_lnames()) {
    names.push_back("--" + l);
    for (const ShortName& s : ShortNames()) {
      if (names.back() == s.flag) names.insert(names.begin(), s.name);
    }
  }
  return names;
}

std::string Alternatives(std::string type) {
  std::replace(type.begin(), type.end(), '|', ' ');
  return type;
}

std::string ValueWords(const std::string& type,
                       const std::vector<std::string>& policies) {
  if (type == "SPEC") return fmt::format("{}", fmt::join(policies, " "));
  return type.find('|') == type.npos ? "" : Alternatives(type);
}

std::vector<const CLI::App*> ShownCommands(const CLI::App& root) {
  std::vector<const CLI::App*> shown;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (!command->get_group().empty()) shown.push_back(command);
  }
  return shown;
}

}  // namespace pyramidkv::cli
