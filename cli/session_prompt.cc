#include "cli/session_prompt.h"

#include <algorithm>
#include <optional>

#include "cli/conversation.h"

namespace pyramidkv::cli {

Result<std::vector<int>> NextTurn(const Engine& engine,
                                  std::span<const int> before,
                                  const std::string& text, ChatOptions chat) {
  // A template's text between turns shows in any conversation.
  const std::vector<ChatMessage> told = {{"user", "question"},
                                         {"assistant", "answer"}};
  std::vector<ChatMessage> all = told;
  all.push_back({"user", text});
  const auto apply = [&](std::span<const ChatMessage> messages, bool open) {
    chat.add_assistant = open;
    return engine.RenderChat(messages, chat);
  };
  PKV_ASSIGN_OR_RETURN(const ChatText rendered, apply(all, true));
  std::optional<size_t> turn;
  if (TurnEnded(engine, before)) {
    PKV_ASSIGN_OR_RETURN(const ChatText closed, apply(told, false));
    turn = NewTextOffset(closed.text, "", rendered.text);
  } else {
    PKV_ASSIGN_OR_RETURN(
        const ChatText opened,
        apply(std::span<const ChatMessage>(told).first(1), true));
    turn = NewTextOffset(opened.text, "answer", rendered.text);
  }
  if (!turn) {
    return Status::Usage(
        "the chat template does not keep turns apart: leave out --chat, or "
        "take another one with --chat-template");
  }
  return engine.TokenizeChat(rendered.From(*turn), /*add_special=*/false);
}

}  // namespace pyramidkv::cli
