// A conversation whose turns extend one compressed cache: only what is new in
// a turn is read. A turn happens as a whole or not at all.

#ifndef PYRAMIDKV_CLI_CONVERSATION_H_
#define PYRAMIDKV_CLI_CONVERSATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// Where in `rendered` (the whole conversation as templates write it) the text
// begins that the cache has not seen. It follows the `prompt` that was read and
// the `answer` that was generated, so it begins with the end of that answer's
// turn. White space around the answer may differ: templates trim it, or write
// some of their own. None if `rendered` tells another story.
std::optional<size_t> NewTextOffset(std::string_view prompt,
                                    std::string_view answer,
                                    std::string_view rendered);

// `documents` and a question about them as one message: each document, an
// empty line, the question. The question alone, or the documents alone, where
// there is no other.
std::string WithDocuments(std::span<const std::string> documents,
                          std::string_view question);

// The end of a turn is a control token, with at most a newline after it.
bool TurnEnded(const Engine& engine, std::span<const int> tokens);

struct Turn {
  int read_tokens = 0;  // 0 of Regenerate
  double read_ms = 0;
  Generation generation;
};

class Conversation {
 public:
  // REQUIRES: `engine` outlives the conversation.
  Conversation(Engine* engine, SessionOptions options, ChatOptions chat)
      : engine_(engine), options_(std::move(options)), chat_(std::move(chat)) {}

  // Starts anew, with `system` as the system message ("": the template's own)
  // and no documents.
  void Reset(std::string system);
  const std::string& system() const { return system_; }

  // Attaches a document to the next turn; several stay in order. They leave
  // with a turn that was accepted. Errors: kUsage for text that is not UTF-8;
  // kDoesNotFit if it alone does not fit into what is left of the context. It
  // is not attached then.
  Status AddDocument(std::string text);
  size_t documents() const { return documents_.size(); }
  void DropDocuments() { documents_.clear(); }

  // One turn. On an error it has not happened: session, history and documents
  // are as they were. An answer that was cancelled before its first token is
  // kCancelled; a longer one is a turn.
  Result<Turn> Say(const std::string& text, const GenerateOptions& options,
                   const Progress& progress);

  // Another answer to the last turn, in place of the one it has. On an error
  // that one stays. Errors: kUsage where there is none.
  Result<Turn> Regenerate(const GenerateOptions& options);
  bool CanRegenerate() const { return before_answer_ != nullptr; }

  // Stores the session, with the tokens of the answer that its cache lacks.
  // Errors: kUsage before the first turn; those of Session::Save.
  Status Save(const std::string& path);
  // Goes on after a stored session, in place of this conversation and by the
  // stored spec. On an error this one stays. Errors: those of
  // Engine::LoadSession and of the template.
  Status Load(const std::string& path);

  // Null before the first turn. Any call that changes the conversation may
  // change it.
  const Session* session() const { return session_.get(); }
  // Its context has no end (positions=renumber).
  bool endless() const;

 private:
  struct Story;  // of a turn

  std::vector<ChatMessage> MessagesWith(const std::string& text) const;
  Result<ChatText> Render(std::span<const ChatMessage> messages,
                          bool add_assistant) const;
  Result<Story> NextStory(const std::vector<ChatMessage>& messages);
  Result<size_t> OffsetAfterLoad(std::vector<ChatMessage> messages,
                                 ChatText* rendered) const;
  Status CheckFits(const Session& session, int64_t tokens) const;
  Result<Turn> ReadAndAnswer(std::span<const int> tokens,
                             const GenerateOptions& options,
                             const Progress& progress);
  Result<Turn> Answer(Session* session, const GenerateOptions& options);
  void Remember(const Generation& generation, int decoded);

  Engine* const engine_;
  const SessionOptions options_;
  const ChatOptions chat_;
  std::string system_;
  std::vector<std::string> documents_;
  std::vector<ChatMessage> messages_;  // without the system message
  std::unique_ptr<Session> session_;
  std::unique_ptr<Session> before_answer_;  // the last one; null: none
  std::string prompt_;        // the conversation as read, up to the answer
  std::string answer_;        // what was generated after it
  std::vector<int> pending_;  // generated, but not in the cache yet
  int decoded_end_ = -1;      // the end-of-turn token in the cache, or -1
  // The turns before are in the cache alone; messages_ begins with one that
  // stands for them.
  bool loaded_ = false;
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_CONVERSATION_H_
