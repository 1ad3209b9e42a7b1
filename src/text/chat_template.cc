#include "text/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "llama.h"
#include "nlohmann/json.hpp"
#include "text/jinja.h"
#include "text/utf8.h"

namespace pyramidkv {
namespace {

using Json = nlohmann::ordered_json;

bool IsKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant" ||
         role == "tool";
}

// libllama takes C strings: a NUL byte would cut a message short in silence.
Status CheckMessages(std::span<const ChatMessage> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& m = messages[i];
    if (!IsKnownRole(m.role)) {
      return Status::Usage(
          fmt::format("message {} has the role \"{}\"; roles are system, user, "
                      "assistant, tool",
                      i, m.role));
    }
    const size_t nul = m.content.find('\0');
    if (nul != std::string::npos) {
      return Status::Usage(
          fmt::format("message {} contains a NUL byte at offset {}", i, nul));
    }
    const size_t invalid = FirstInvalidUtf8(m.content);
    if (invalid != std::string_view::npos) {
      return Status::Usage(fmt::format(
          "message {} is not valid UTF-8 at byte offset {}", i, invalid));
    }
  }
  return {};
}

Result<Json> ParseKwargs(const std::string& text) {
  if (text.empty()) return Json::object();
  constexpr int kDeepest = 64;  // what follows recurses into them
  bool fits = true;
  const auto note_depth = [&](int depth, Json::parse_event_t, Json&) {
    fits = fits && depth <= kDeepest;
    return fits;
  };
  Json kwargs = Json::parse(text, note_depth, /*allow_exceptions=*/false);
  if (!fits) {
    return Status::Usage(fmt::format(
        "the variables of the chat template nest more than {} deep", kDeepest));
  }
  if (kwargs.is_object()) return kwargs;
  return Status::Usage(fmt::format(
      "the variables of the chat template are not a JSON object such as "
      "{{\"enable_thinking\": false}}: {}",
      text));
}

// Strings and keys of `json`, changed by `edit`.
template <typename Edit>
Json Edited(const Json& json, const Edit& edit) {
  if (json.is_string()) return edit(json.get_ref<const std::string&>());
  if (json.is_array()) {
    Json array = Json::array();
    for (const Json& item : json) array.push_back(Edited(item, edit));
    return array;
  }
  if (!json.is_object()) return json;
  Json object = Json::object();
  for (const auto& [key, value] : json.items()) {
    object[edit(key)] = Edited(value, edit);
  }
  return object;
}

// The variables that transformers gives a template.
Json OwnVariables(const ChatModel& model, bool add_assistant) {
  Json own = {{"add_generation_prompt", add_assistant},
              {"tools", nullptr},
              {"documents", nullptr}};
  for (const auto& [name, text] : model.tokens) own[name] = text;
  return own;
}

Result<ChatText> Interpret(const ChatModel& model, const std::string& source,
                           const Json& said, const ChatOptions& options) {
  JinjaInput input;
  input.source = source;
  // The file's tokens need not be UTF-8.
  input.own = OwnVariables(model, options.add_assistant)
                  .dump(-1, ' ', false, Json::error_handler_t::replace);
  input.said = said.dump();
  input.now = model.now.value_or(std::time(nullptr));
  input.limits = model.limits;
  if (options.parse_special) {
    PKV_ASSIGN_OR_RETURN(ChatText chat, RenderJinja(input));
    chat.said.clear();
    return chat;
  }
  const std::string mark = UnusedCharacter({input.source, input.said});
  if (mark.empty()) {
    return Status::Usage("the messages use every private character");
  }
  // Filters can lose what the engine knows of a string's origin; they do not
  // lose a character.
  input.said = Edited(said, [&](const std::string& text) {
                 return model.special.Mark(text, mark);
               }).dump();
  PKV_ASSIGN_OR_RETURN(const ChatText chat, RenderJinja(input));
  return WithoutMarks(chat, mark);
}

// libllama's rendering; false if it has no such template.
bool Apply(const std::string& name, std::span<const ChatMessage> messages,
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
        name.c_str(), chat.data(), chat.size(), add_assistant, out->data(),
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

Result<ChatText> ApplyBuiltin(const ChatModel& model,
                              std::span<const ChatMessage> messages,
                              const ChatOptions& options) {
  const std::vector<std::string> known = BuiltinChatTemplates();
  std::vector<ChatMessage> marked(messages.begin(), messages.end());
  std::string all;
  for (const ChatMessage& m : marked) all += m.content;
  const std::string mark = UnusedCharacter({all});
  if (mark.empty()) {
    return Status::Usage("the messages use every private character");
  }
  for (ChatMessage& m : marked) {
    if (!options.parse_special) m.content = model.special.Mark(m.content, mark);
  }
  ChatText chat;
  if (!std::binary_search(known.begin(), known.end(), options.name) ||
      !Apply(options.name, marked, options.add_assistant, &chat.text)) {
    return Status::Usage(fmt::format("unknown chat template \"{}\"; known: {}",
                                     options.name, NameList()));
  }
  return WithoutMarks(chat, mark);
}

}  // namespace

ChatText ChatText::From(size_t offset) const {
  ChatText end = {text.substr(std::min(offset, text.size()))};
  for (const auto& [first, second] : said) {
    if (second <= offset) continue;
    end.said.emplace_back(std::max(first, offset) - offset, second - offset);
  }
  return end;
}

std::vector<std::string> BuiltinChatTemplates() {
  std::vector<const char*> names(
      static_cast<size_t>(llama_chat_builtin_templates(nullptr, 0)));
  llama_chat_builtin_templates(names.data(), names.size());
  std::vector<std::string> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

Result<ChatText> RenderChat(const ChatModel& model,
                            std::span<const ChatMessage> messages,
                            const ChatOptions& options) {
  PKV_RETURN_IF_ERROR(CheckMessages(messages));
  PKV_ASSIGN_OR_RETURN(Json said, ParseKwargs(options.kwargs));
  if (!options.name.empty()) return ApplyBuiltin(model, messages, options);
  const std::string& source =
      options.source.empty() ? model.source : options.source;
  if (source.empty()) {
    return Status::Model(
        fmt::format("the model file has no chat template; choose one with "
                    "--chat-template NAME, one of: {}",
                    NameList()));
  }
  Json list = Json::array();
  for (const ChatMessage& m : messages) {
    list.push_back({{"role", m.role}, {"content", m.content}});
  }
  said["messages"] = std::move(list);
  return Interpret(model, source, said, options);
}

}  // namespace pyramidkv
