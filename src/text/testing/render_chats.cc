// Renders chat templates, for the test that compares them with jinja2: a JSON
// object on each line of standard input (source, messages, kwargs, tokens, now,
// add_assistant) to one on standard output (text and said, or error).

#include <iostream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "text/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;

Json Render(const Json& input) {
  pyramidkv::ChatModel model;
  model.source = input["source"];
  model.now = input["now"].get<std::time_t>();
  for (const auto& [name, text] : input["tokens"].items()) {
    model.tokens[name] = text;
  }
  std::vector<pyramidkv::ChatMessage> messages;
  for (const Json& message : input["messages"]) {
    messages.push_back({message["role"], message["content"]});
  }
  pyramidkv::ChatOptions options;
  options.kwargs = input["kwargs"].dump();
  options.add_assistant = input["add_assistant"];
  const auto chat = pyramidkv::RenderChat(model, messages, options);
  if (!chat.ok()) return {{"error", chat.status().message()}};
  return {{"text", chat->text}, {"said", chat->said}};
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << Render(Json::parse(line)).dump() << std::endl;
  }
}
