// Where models are found: what -m names, and what is taken without it.

#ifndef PYRAMIDKV_CLI_MODELS_H_
#define PYRAMIDKV_CLI_MODELS_H_

#include <string>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// models/ here, then the user's own: $XDG_DATA_HOME/pyramidkv/models, which is
// ~/.local/share/pyramidkv/models where that is not set.
std::vector<std::string> ModelDirectories();

// The file of `flag` if given, else of $PYRAMIDKV_ARG_MODEL or
// $PYRAMIDKV_MODEL, else default.gguf in the first of ModelDirectories that has
// one. A name without a slash that is no file here is looked for in these
// directories, with .gguf or without. Errors: kModel where there is no default.
Result<std::string> ResolveModelPath(const std::string& flag);

// The GGUF files in ModelDirectories, by directory and name.
std::vector<std::string> FindModels();

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_MODELS_H_
