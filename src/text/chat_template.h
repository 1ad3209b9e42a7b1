// Chat templates: messages to the prompt that a model was trained on. Its own
// template is Jinja; the built-in ones are libllama's fixed list.

#ifndef PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_
#define PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_

#include <ctime>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"
#include "text/control_tokens.h"

namespace pyramidkv {

// A model, as far as templates know it.
struct ChatModel {
  std::string source;  // its own template; empty: none
  // Variables of all templates: bos_token and the like.
  std::map<std::string, std::string> tokens = {};
  SpecialTokens special = SpecialTokens();
  std::optional<std::time_t> now = {};  // none: the clock's
  ChildLimits limits = {};
};

// Names of ChatOptions, sorted.
std::vector<std::string> BuiltinChatTemplates();

// As Engine::RenderChat.
Result<ChatText> RenderChat(const ChatModel& model,
                            std::span<const ChatMessage> messages,
                            const ChatOptions& options);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_
