// Answers several prompts at once, each with a cache of its own, and prints
// each answer as it ends.
//
//   batch MODEL.gguf PROMPT...

#include "pyramidkv/batch.h"

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace {

using pyramidkv::BatchRequest;
using pyramidkv::BatchResult;
using pyramidkv::Engine;
using pyramidkv::Status;

Status AnswerAll(const std::string& model,
                 const std::vector<std::string>& prompts) {
  PKV_ASSIGN_OR_RETURN(auto engine, Engine::Load({.model_path = model}));
  PKV_ASSIGN_OR_RETURN(auto batch, engine->NewBatch({}));
  for (const std::string& prompt : prompts) {
    BatchRequest request;
    request.text = prompt;
    request.session.kv = "snapkv-wide,keep=0.5";
    request.generate.max_tokens = 32;
    request.on_done = [prompt](const BatchResult& result) {
      std::cout << prompt << result.generation.text << "\n";
    };
    PKV_RETURN_IF_ERROR(batch->Submit(std::move(request)).status());
  }
  while (batch->Step()) {
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: batch MODEL.gguf PROMPT...\n";
    return 2;
  }
  const Status status = AnswerAll(argv[1], {argv + 2, argv + argc});
  if (!status.ok()) std::cerr << "batch: " << status.message() << "\n";
  return static_cast<int>(status.code());
}
