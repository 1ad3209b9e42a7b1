// The words of a command line, made ready for CLI11: llama.cpp's names become
// ours, and a flag that nobody knows is refused with the one that was meant.
// CLI11 would take "-ngl 99" for "-n gl".

#ifndef PYRAMIDKV_CLI_ARGUMENTS_H_
#define PYRAMIDKV_CLI_ARGUMENTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// Names of more than one letter behind a single dash, which CLI11 has no
// notion of, and the flags that they stand for.
struct ShortName {
  const char* name;
  const char* flag;
};
const std::vector<ShortName>& ShortNames();

// The words behind the name of the command `app`, as CLI11 is to read them.
// `root` knows the flags of other commands, for messages. Errors: kUsage for
// unknown flags, and for those of llama.cpp that cannot be served.
Result<std::vector<std::string>> TranslateArguments(
    const CLI::App& root, const CLI::App& app,
    const std::vector<std::string>& args);

// "; did you mean NAME?" with the nearest of `names`; empty if none is near.
std::string Suggestion(std::string_view word,
                       const std::vector<std::string>& names);

// llama.cpp's -e: "\n", "\t", "\r", "\"", "\'", "\\" and "\x41" as what they
// stand for; other backslashes stay.
std::string Unescape(std::string_view text);

// Rules for all options of `app`: of a flag that is given several times the
// last one counts, but for lists; the name of a file is not empty.
void ApplyRules(CLI::App* app);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_ARGUMENTS_H_
