// The text that `run` puts before a model: documents, and a question about
// them.

#ifndef PYRAMIDKV_CLI_PROMPT_INPUT_H_
#define PYRAMIDKV_CLI_PROMPT_INPUT_H_

#include <optional>
#include <string>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct PromptFlags {
  std::optional<std::string> question;  // -p
  std::vector<std::string> files;       // -f; "-" is standard input
  bool verbatim = false;                // files as they are
  // Standard input is a document where there is a question and no file.
  bool takes_stdin = false;
};

// The documents, in order, an empty line after each, and the question; "" where
// nothing was given and nobody types. Without a question the documents alone.
// Errors: those of ReadDocument; kUsage for standard input that is asked for
// twice, or a terminal where text was expected.
Result<std::string> PromptText(const PromptFlags& flags);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_PROMPT_INPUT_H_
