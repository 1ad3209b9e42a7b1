// The words that the completion scripts of all shells are made from.

#ifndef PYRAMIDKV_CLI_COMPLETION_WORDS_H_
#define PYRAMIDKV_CLI_COMPLETION_WORDS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace pyramidkv::cli {

// All spellings of an option, llama.cpp's short ones with them.
std::vector<std::string> Spellings(const CLI::Option& option);

// "a|b" as words of a list.
std::string Alternatives(std::string type);

// The words that complete a value of this type; empty: none.
std::string ValueWords(const std::string& type,
                       const std::vector<std::string>& policies);

// The commands that are not hidden.
std::vector<const CLI::App*> ShownCommands(const CLI::App& root);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_COMPLETION_WORDS_H_
