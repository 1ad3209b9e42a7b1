// Help beyond the lists of flags: examples of each command, and the presets of
// cache specs.

#ifndef PYRAMIDKV_CLI_HELP_H_
#define PYRAMIDKV_CLI_HELP_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"

namespace pyramidkv::cli {

// Command lines, without the program's name, that show what `command` is for.
std::vector<std::string_view> Examples(std::string_view command);

// How all help is written: "-m, --model FILE".
std::shared_ptr<CLI::FormatterBase> HelpFormat();

// Puts the examples of every command below its flags.
void AddExamples(CLI::App* root);

// The presets of cache specs, a line each.
std::string PresetTable();

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_HELP_H_
