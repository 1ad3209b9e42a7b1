// The one bound on contexts: of plans, new sessions and loaded ones.

#ifndef PYRAMIDKV_RUNTIME_CONTEXT_SIZE_H_
#define PYRAMIDKV_RUNTIME_CONTEXT_SIZE_H_

#include <fmt/format.h>

#include "base/limits.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Errors: kUsage.
inline Status CheckContextSize(int tokens) {
  if (tokens >= 1 && tokens <= kMostTokens) return {};
  return Status::Usage(fmt::format(
      "context {}: allowed: an integer from 1 to {}", tokens, kMostTokens));
}

// A session's; 0 is the model's own.
inline Status CheckAskedContextSize(int tokens) {
  return tokens > 0 ? CheckContextSize(tokens) : Status();
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_CONTEXT_SIZE_H_
