// Chat templates: messages to the prompt that a model was trained on, by
// libllama's list of known templates (it does not interpret Jinja).

#ifndef PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_
#define PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Names that RenderChat takes, sorted.
std::vector<std::string> BuiltinChatTemplates();

// Writes `messages` by the built-in template `name` or, where it is empty, by
// `model_template` (the Jinja text in the model file; empty if it has none).
// Errors: kUsage for an unknown name, a role other than system, user and
// assistant, or a NUL byte; kModel for a model template that libllama does
// not recognise.
Result<std::string> RenderChat(std::string_view model_template,
                               std::span<const ChatMessage> messages,
                               std::string_view name, bool add_assistant);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_CHAT_TEMPLATE_H_
