#include "cli/prompt_cache.h"

#include <algorithm>
#include <filesystem>

#include "pyramidkv/stored_session.h"

namespace pyramidkv::cli {
namespace {

bool BeginsWith(std::span<const int> all, std::span<const int> first) {
  return first.size() <= all.size() &&
         std::equal(first.begin(), first.end(), all.begin());
}

}  // namespace

Result<std::unique_ptr<Session>> OpenPromptCache(
    Engine* engine, const std::string& path, std::span<const int> prompt,
    const SessionOptions& options) {
  std::unique_ptr<Session> none;
  std::error_code ignored;
  if (std::filesystem::file_size(path, ignored) == 0 || ignored) return none;
  PKV_ASSIGN_OR_RETURN(const StoredSession stored, ReadStoredSession(path));
  PKV_ASSIGN_OR_RETURN(
      std::unique_ptr<Session> session,
      engine->LoadSession(path, {.context_size = options.context_size,
                                 .max_new_tokens = options.max_new_tokens}));
  const bool fits = stored.requested == options.kv &&
                    stored.compute == engine->compute() &&
                    BeginsWith(prompt, session->tokens());
  return fits ? std::move(session) : std::move(none);
}

}  // namespace pyramidkv::cli
