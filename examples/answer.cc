// Reads a text into a compressed cache and answers a question about it.
//
//   answer MODEL.gguf TEXT_FILE QUESTION
//
// The question stands at the end of the prompt, so that the policy keeps what
// it attends to.

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace {

using pyramidkv::ChatMessage;
using pyramidkv::Engine;
using pyramidkv::Status;

Status Answer(const std::string& model, const std::string& question) {
  PKV_ASSIGN_OR_RETURN(auto engine, Engine::Load({.model_path = model}));
  PKV_ASSIGN_OR_RETURN(auto session,
                       engine->NewSession({.kv = "snapkv-wide,keep=0.3"}));
  const std::vector<ChatMessage> chat = {{"user", question}};
  PKV_ASSIGN_OR_RETURN(auto text, engine->RenderChat(chat, {}));
  PKV_ASSIGN_OR_RETURN(auto prompt, engine->TokenizeChat(text, true));
  PKV_RETURN_IF_ERROR(session->Read(prompt, {}));  // then it is compressed
  PKV_ASSIGN_OR_RETURN(auto answer, session->Generate({.max_tokens = 64}));
  std::cout << answer.text << "\n";

  const auto report = session->Report();
  std::cerr << report.entries_kept << " of " << report.entries_full
            << " entries kept in " << report.bytes << " bytes\n";
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: answer MODEL.gguf TEXT_FILE QUESTION\n";
    return 2;
  }
  std::ifstream file(argv[2]);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file) {
    std::cerr << "answer: " << argv[2] << " cannot be read\n";
    return 1;
  }
  const Status status = Answer(argv[1], text + "\n" + argv[3]);
  if (!status.ok()) std::cerr << "answer: " << status.message() << "\n";
  return static_cast<int>(status.code());
}
