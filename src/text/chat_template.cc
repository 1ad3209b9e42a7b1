#include "text/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "llama.h"

namespace pyramidkv {
namespace {

// SmolLM2's template opens a chat that has no system message with this one.
// libllama renders it as plain ChatML and drops the sentence, without which
// the model answers measurably worse.
constexpr std::string_view kSmolSystem =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

bool IsKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant";
}

// libllama takes C strings: a NUL byte would cut a message short in silence.
Status CheckMessages(std::span<const ChatMessage> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& m = messages[i];
    if (!IsKnownRole(m.role)) {
      return Status::Usage(fmt::format(
          "message {} has the role \"{}\"; roles are system, user, assistant",
          i, m.role));
    }
    const size_t nul = m.content.find('\0');
    if (nul != std::string::npos) {
      return Status::Usage(
          fmt::format("message {} contains a NUL byte at offset {}", i, nul));
    }
  }
  return {};
}

// libllama's rendering; false if it does not recognise the template.
bool Apply(const std::string& text, std::span<const ChatMessage> messages,
           bool add_assistant, std::string* out) {
  std::vector<llama_chat_message> chat;
  chat.reserve(messages.size());
  size_t bytes = 256;
  for (const ChatMessage& m : messages) {
    chat.push_back({m.role.c_str(), m.content.c_str()});
    bytes += 2 * (m.role.size() + m.content.size());
  }
  for (;;) {
    out->resize(bytes);
    const int32_t length = llama_chat_apply_template(
        text.c_str(), chat.data(), chat.size(), add_assistant, out->data(),
        static_cast<int32_t>(bytes));
    if (length < 0) return false;
    const bool fits = static_cast<size_t>(length) <= bytes;
    bytes = static_cast<size_t>(length);
    if (!fits) continue;
    out->resize(bytes);
    return true;
  }
}

std::string NameList() {
  return fmt::format("{}", fmt::join(BuiltinChatTemplates(), ", "));
}

}  // namespace

std::vector<std::string> BuiltinChatTemplates() {
  std::vector<const char*> names(
      static_cast<size_t>(llama_chat_builtin_templates(nullptr, 0)));
  llama_chat_builtin_templates(names.data(), names.size());
  std::vector<std::string> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

Result<std::string> RenderChat(std::string_view model_template,
                               std::span<const ChatMessage> messages,
                               std::string_view name, bool add_assistant) {
  PKV_RETURN_IF_ERROR(CheckMessages(messages));
  std::string out;
  if (!name.empty()) {
    const std::vector<std::string> known = BuiltinChatTemplates();
    if (!std::binary_search(known.begin(), known.end(), name) ||
        !Apply(std::string(name), messages, add_assistant, &out)) {
      return Status::Usage(fmt::format(
          "unknown chat template \"{}\"; known: {}", name, NameList()));
    }
    return out;
  }
  if (model_template.empty()) {
    return Status::Model(
        fmt::format("the model file has no chat template; choose one with "
                    "--chat-template NAME, one of: {}",
                    NameList()));
  }
  std::vector<ChatMessage> chat(messages.begin(), messages.end());
  if (!chat.empty() && chat[0].role != "system" &&
      model_template.find(kSmolSystem) != std::string_view::npos) {
    chat.insert(chat.begin(), {"system", std::string(kSmolSystem)});
  }
  if (!Apply(std::string(model_template), chat, add_assistant, &out)) {
    return Status::Model(
        fmt::format("the model's own chat template is not one that can be "
                    "applied; choose one with --chat-template NAME, one of: {}",
                    NameList()));
  }
  return out;
}

}  // namespace pyramidkv
