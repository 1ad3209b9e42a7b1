#include "cli/session_prompt.h"

#include <algorithm>
#include <optional>

#include "cli/conversation.h"

namespace pyramidkv::cli {
namespace {

// The end of a turn is a control token, with at most a newline after it.
bool TurnEnded(const Engine& engine, std::span<const int> before) {
  const auto last = before.last(std::min<size_t>(before.size(), 2));
  return std::any_of(last.begin(), last.end(),
                     [&](int id) { return engine.IsEndOfGeneration(id); });
}

}  // namespace

Result<std::vector<int>> NextTurn(const Engine& engine,
                                  std::span<const int> before,
                                  const std::string& text,
                                  const std::string& chat_template) {
  // A template's text between turns shows in any conversation.
  const std::vector<ChatMessage> told = {{"user", "question"},
                                         {"assistant", "answer"}};
  std::vector<ChatMessage> all = told;
  all.push_back({"user", text});
  const auto apply = [&](std::span<const ChatMessage> messages, bool open) {
    return engine.ApplyChatTemplate(messages, chat_template, open);
  };
  PKV_ASSIGN_OR_RETURN(const std::string rendered, apply(all, true));
  std::optional<std::string> turn;
  if (TurnEnded(engine, before)) {
    PKV_ASSIGN_OR_RETURN(const std::string closed, apply(told, false));
    turn = NewText(closed, "", rendered);
  } else {
    PKV_ASSIGN_OR_RETURN(
        const std::string opened,
        apply(std::span<const ChatMessage>(told).first(1), true));
    turn = NewText(opened, "answer", rendered);
  }
  if (!turn) {
    return Status::Usage(
        "the chat template does not keep turns apart: leave out --chat, or "
        "take another one with --chat-template");
  }
  return engine.Tokenize(*turn, {.add_special = false});
}

}  // namespace pyramidkv::cli
