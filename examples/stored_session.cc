// Reads a text once, stores its compressed cache, and answers questions from
// the file.
//
//   stored_session MODEL.gguf TEXT_FILE SESSION_FILE QUESTION...
//
// A session file that is there is not made again. Questions are not known when
// the text is read: the policy is one that does not look at the end of it.

#include <filesystem>
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

Status Store(Engine& engine, const std::string& text, const std::string& path) {
  PKV_ASSIGN_OR_RETURN(auto session,
                       engine.NewSession({.kv = "kvzip,keep=0.3"}));
  PKV_ASSIGN_OR_RETURN(auto tokens, engine.Tokenize(text, {}));
  PKV_RETURN_IF_ERROR(session->Read(tokens, {}));
  return session->Save(path);
}

Status Ask(Engine& engine, const std::string& path,
           const std::string& question) {
  PKV_ASSIGN_OR_RETURN(auto session, engine.LoadSession(path, {}));
  const std::vector<ChatMessage> chat = {{"user", question}};
  PKV_ASSIGN_OR_RETURN(auto turn, engine.RenderChat(chat, {}));
  PKV_ASSIGN_OR_RETURN(auto tokens, engine.TokenizeChat(turn, false));
  PKV_RETURN_IF_ERROR(session->Read(tokens, {}));
  PKV_ASSIGN_OR_RETURN(auto answer, session->Generate({.max_tokens = 32}));
  std::cout << question << "\n  " << answer.text << "\n";
  return {};
}

Status Run(char** arguments, int questions) {
  PKV_ASSIGN_OR_RETURN(auto engine, Engine::Load({.model_path = arguments[0]}));
  const std::string path = arguments[2];
  if (!std::filesystem::exists(path)) {
    std::ifstream file(arguments[1]);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) return Status::Runtime("the text cannot be read");
    PKV_RETURN_IF_ERROR(Store(*engine, text, path));
  }
  for (int i = 0; i < questions; ++i) {
    PKV_RETURN_IF_ERROR(Ask(*engine, path, arguments[3 + i]));
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: stored_session MODEL.gguf TEXT_FILE SESSION_FILE "
                 "QUESTION...\n";
    return 2;
  }
  const Status status = Run(argv + 1, argc - 4);
  if (!status.ok()) std::cerr << "stored_session: " << status.message() << "\n";
  return static_cast<int>(status.code());
}
