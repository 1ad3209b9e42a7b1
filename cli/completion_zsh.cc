#include <fmt/format.h>

#include "cli/completion.h"
#include "cli/completion_words.h"

namespace pyramidkv::cli {
namespace {

constexpr char kHead[] = R"(#compdef pyramidkv
_pyramidkv() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C \
)";

// Text between single quotes, where _arguments gives ":", "[" and "]" a
// meaning.
std::string Quoted(const std::string& text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else if (c == ':' || c == '[' || c == ']' || c == '\\') {
      quoted += {'\\', c};
    } else {
      quoted += c;
    }
  }
  return quoted;
}

// The same between double quotes that are evaluated: nothing of it is run.
std::string Evaluated(const std::string& text) {
  std::string quoted;
  for (const char c : Quoted(text)) {
    if (c == '`' || c == '$' || c == '"') quoted += '\\';
    quoted += c;
  }
  return quoted;
}

// ":TYPE:action" of a value.
std::string Value(const std::string& type,
                  const std::vector<std::string>& policies) {
  if (type == "FILE") return ":FILE:_files";
  if (type == "DIR") return ":DIR:_files -/";
  const std::string words = ValueWords(type, policies);
  return words.empty() ? fmt::format(":{}: ", Quoted(type))
                       : fmt::format(":value:({})", words);
}

std::string Arguments(const CLI::App& app, int first_position,
                      const std::vector<std::string>& policies) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (option->get_positional()) {
      text += fmt::format("    '{}{}' \\\n", first_position++,
                          Value(type, policies));
      continue;
    }
    const bool takes = option->get_items_expected_max() > 0;
    for (const std::string& name : Spellings(*option)) {
      text += fmt::format("    '*{}{}[{}]{}' \\\n", name,
                          takes && name.starts_with("--") ? "=" : "",
                          Quoted(option->get_description()),
                          takes ? Value(type, policies) : "");
    }
  }
  return text;
}

}  // namespace

std::string ZshCompletion(const CLI::App& root,
                          const std::vector<std::string>& policies) {
  std::string names, cases;
  for (const CLI::App* command : ShownCommands(root)) {
    names += fmt::format(" {}\\:\"{}\"", command->get_name(),
                         Evaluated(command->get_description()));
    cases += fmt::format("  {})\n    _arguments \\\n{}    && return\n    ;;\n",
                         command->get_name(), Arguments(*command, 1, policies));
  }
  return kHead + Arguments(root, 1, policies) +
         fmt::format("    '1:command:(({}))' \\\n    '*::argument:->command'\n",
                     names.substr(1)) +
         "  case $line[1] in\n" + cases + "  esac\n}\n" +
         // As a function of $fpath, or sourced.
         "if [ \"$funcstack[1]\" = _pyramidkv ]; then\n  _pyramidkv \"$@\"\n"
         "else\n  compdef _pyramidkv pyramidkv\nfi\n";
}

}  // namespace pyramidkv::cli
