// llama.cpp's --prompt-cache: a stored session that spares the reading of a
// prompt which begins as the last one did.

#ifndef PYRAMIDKV_CLI_PROMPT_CACHE_H_
#define PYRAMIDKV_CLI_PROMPT_CACHE_H_

#include <memory>
#include <span>
#include <string>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The session of the file `path` if its tokens are the first of `prompt` and it
// was made with `options.kv`; null if they are not, or there is no file: then
// the prompt has to be read as a whole.
// Errors: those of Engine::LoadSession, so that no file of another model is
// written over.
Result<std::unique_ptr<Session>> OpenPromptCache(Engine* engine,
                                                 const std::string& path,
                                                 std::span<const int> prompt,
                                                 const SessionOptions& options);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_PROMPT_CACHE_H_
