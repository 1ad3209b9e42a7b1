// A conversation whose turns extend one compressed cache: only what is new in
// a turn is read.

#ifndef PYRAMIDKV_CLI_CONVERSATION_H_
#define PYRAMIDKV_CLI_CONVERSATION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The end of `rendered` (the whole conversation as templates write it) that
// the cache has not seen. It follows the `prompt` that was read and the
// `answer` that was generated, so it begins with the end of that answer's
// turn. Templates may trim the answer. None if `rendered` tells another story.
std::optional<std::string> NewText(std::string_view prompt,
                                   std::string_view answer,
                                   std::string_view rendered);

struct Turn {
  int read_tokens = 0;
  double read_ms = 0;
  Generation generation;
};

class Conversation {
 public:
  // REQUIRES: `engine` outlives the conversation.
  Conversation(Engine* engine, SessionOptions options,
               std::string chat_template)
      : engine_(engine),
        options_(std::move(options)),
        chat_template_(std::move(chat_template)) {}

  // Starts anew, with `system` as the system message ("": the template's own).
  void Reset(std::string system);
  const std::string& system() const { return system_; }

  // One turn. On an error it has not happened; where the cache was lost with
  // it, the next turn reads the whole conversation again. kDoesNotFit: the
  // turn does not fit into what is left of the context.
  Result<Turn> Say(const std::string& text, const GenerateOptions& options,
                   const Progress& progress);

  // Null before the first turn.
  const Session* session() const { return session_.get(); }

 private:
  Result<std::vector<int>> NewTokens(const std::string& rendered);
  Status CheckFits(int64_t tokens) const;
  void Remember(const std::string& rendered, const Generation& generation,
                int decoded);

  Engine* const engine_;
  const SessionOptions options_;
  const std::string chat_template_;
  std::string system_;
  std::vector<ChatMessage> messages_;  // without the system message
  std::unique_ptr<Session> session_;
  std::string prompt_;        // the conversation as read, up to the answer
  std::string answer_;        // what was generated after it
  std::vector<int> pending_;  // generated, but not in the cache yet
  int decoded_end_ = -1;      // the end-of-turn token in the cache, or -1
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_CONVERSATION_H_
