// Completion scripts, made from the tree of commands and flags.

#ifndef PYRAMIDKV_CLI_COMPLETION_H_
#define PYRAMIDKV_CLI_COMPLETION_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace pyramidkv::cli {

// `policies` complete the flags of type SPEC; FILE completes to files, and a
// type written a|b|c to its words. Hidden commands are left out.
std::string BashCompletion(const CLI::App& root,
                           const std::vector<std::string>& policies);
std::string ZshCompletion(const CLI::App& root,
                          const std::vector<std::string>& policies);
std::string FishCompletion(const CLI::App& root,
                           const std::vector<std::string>& policies);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_COMPLETION_H_
