#include "cli/help.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/text_format.h"
#include "cli/version.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

struct Example {
  std::string_view command, line;
};

constexpr Example kExamples[] = {
    {"run", "run -f report.txt -p \"Who signed it?\""},
    {"run", "run -f report.txt -p \"Sum it up.\" --kv snapkv-wide,keep=0.3"},
    {"run", "run -p \"Name a colour.\" -n 20 --json"},
    {"run", "run -f report.txt --save-session report.session -n 0"},
    {"chat", "chat"},
    {"chat", "chat -f report.txt"},
    {"chat", "chat -m model.gguf -sys \"Answer briefly.\" --kv full,type=int8"},
    {"plan", "plan --kv full --kv pyramidkv,keep=0.3"},
    {"plan", "plan --layers 80 --kv-heads 8 --head-dim 128 --ctx-size 8192"},
    {"bench", "bench -p 2048,8000 --kv full --kv pyramidkv,keep=0.3"},
    {"bench", "bench -np 4 -r 1 -o csv"},
    {"eval", "eval passkey --kv snapkv-wide,keep=0.3 --kv pyramidkv,keep=0.5"},
    {"eval", "eval kl -f report.txt --kv full,type=int4 --max-kl 0.05"},
    {"eval", "eval needle --trials 100 --resume needles.jsonl --kv infinigen"},
    {"session",
     "session save report.session -f report.txt --kv kvzip,keep=0.3"},
    {"session", "session ask report.session -p \"Who signed it?\" --chat"},
    {"session", "session info report.session"},
    {"models", "models"},
    {"models", "models --json"},
    {"doctor", "doctor"},
    {"doctor", "doctor -m model.gguf --json"},
};

class Format : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option,
                               bool is_positional) const override {
    std::string name = CLI::Formatter::make_option_name(option, is_positional);
    for (size_t at = 0; (at = name.find(",-", at)) != name.npos; at += 2) {
      name.insert(at + 1, " ");
    }
    return name;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> HelpFormat() {
  return std::make_shared<Format>();
}

std::vector<std::string_view> Examples(std::string_view command) {
  std::vector<std::string_view> lines;
  for (const Example& example : kExamples) {
    if (example.command == command) lines.push_back(example.line);
  }
  return lines;
}

void AddExamples(CLI::App* root) {
  for (CLI::App* command : root->get_subcommands({})) {
    std::string text;
    for (const std::string_view line : Examples(command->get_name())) {
      text += fmt::format("  pyramidkv {}\n", line);
    }
    if (!text.empty()) command->footer("Examples:\n" + text);
  }
}

std::string PresetTable() {
  std::vector<std::vector<std::string>> rows;
  for (PresetInfo& preset : PresetList()) {
    rows.push_back({std::move(preset.name), std::move(preset.summary),
                    std::move(preset.paper)});
  }
  return AlignedTable(rows, {true, true, true});
}

namespace {

std::vector<std::string> Topics(const CLI::App& root) {
  std::vector<std::string> topics;
  for (const CLI::App* command : root.get_subcommands({})) {
    if (!command->get_group().empty()) topics.push_back(command->get_name());
  }
  topics.push_back("presets");
  return topics;
}

Status Help(const CLI::App& root, const std::string& topic) {
  if (topic.empty()) return WriteStdout(root.help());
  if (topic == "presets") return WriteStdout(PresetTable());
  const std::vector<std::string> topics = Topics(root);
  for (const CLI::App* command : root.get_subcommands({})) {
    if (command->get_group().empty() || command->get_name() != topic) continue;
    return WriteStdout(command->help("pyramidkv"));
  }
  return Status::Usage(fmt::format("no help on \"{}\"{}; there is help on {}",
                                   topic, Suggestion(topic, topics),
                                   fmt::join(topics, ", ")));
}

}  // namespace

Command AddHelpCommand(CLI::App& root) {
  auto topic = std::make_shared<std::string>();
  CLI::App* app = root.add_subcommand("help", "Help on a command or `presets`");
  app->add_option("topic", *topic, "A command, or the presets of cache specs")
      ->type_name(fmt::format("{}", fmt::join(Topics(root), "|")));
  return {app, [topic, app] {
            // Without this command, whose own help it would be.
            CLI::App* root = app->get_parent();
            root->clear();
            return Help(*root, *topic);
          }};
}

Command AddVersionCommand(CLI::App& root) {
  CLI::App* app = root.add_subcommand("version", "The version, as --version");
  return {app, [] { return WriteStdout(VersionText()); }};
}

}  // namespace pyramidkv::cli
