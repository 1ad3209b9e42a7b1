// Inputs that are read before the start: prompts, lists of token ids.

#ifndef PYRAMIDKV_CLI_INPUTS_H_
#define PYRAMIDKV_CLI_INPUTS_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The bytes of a file. Errors: kUsage where it cannot be opened, kRuntime
// where a read fails; both name `path`.
Result<std::string> ReadFile(const std::string& path);
Result<std::string> ReadStdin();

// `text` without one newline at its end.
std::string DropTrailingNewline(std::string text);

// Token ids: a JSON list, or numbers between white space or commas. `source`
// is named in the error.
Result<std::vector<int>> ParseIdList(std::string_view text,
                                     std::string_view source);
Result<std::vector<int>> ReadIdFile(const std::string& path);

// kUsage with the first id outside of [0, vocabulary).
Status CheckIds(std::span<const int> ids, int vocabulary,
                std::string_view source);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_INPUTS_H_
