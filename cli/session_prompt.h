// A question after a stored session, as the chat template writes it.

#ifndef PYRAMIDKV_CLI_SESSION_PROMPT_H_
#define PYRAMIDKV_CLI_SESSION_PROMPT_H_

#include <span>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The tokens of a user's turn after `before`, whose last turn is ended first
// if it is open. Errors: those of the template; kUsage where its turns cannot
// be told apart.
Result<std::vector<int>> NextTurn(const Engine& engine,
                                  std::span<const int> before,
                                  const std::string& text, ChatOptions chat);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_SESSION_PROMPT_H_
