// Counts how many hidden pass keys come back through compressed caches.
//
//   compare_caches MODEL.gguf TRIALS SPEC...

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/eval.h"
#include "pyramidkv/status.h"

namespace {

using pyramidkv::Engine;
using pyramidkv::EvalOptions;
using pyramidkv::RunEval;
using pyramidkv::Status;
using pyramidkv::SummarizeEval;

Status Compare(const std::string& model, int trials,
               const std::vector<std::string>& specs) {
  PKV_ASSIGN_OR_RETURN(auto engine, Engine::Load({.model_path = model}));
  const EvalOptions options{.specs = specs, .tokens = 600, .trials = trials};
  PKV_ASSIGN_OR_RETURN(auto results, RunEval(engine.get(), options, {}, {}));
  for (const auto& row : SummarizeEval(results)) {  // `full` comes first
    std::cout << row.spec << ": " << row.right << " of " << row.trials << "\n";
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: compare_caches MODEL.gguf TRIALS SPEC...\n";
    return 2;
  }
  const Status status =
      Compare(argv[1], std::atoi(argv[2]), {argv + 3, argv + argc});
  if (!status.ok()) std::cerr << "compare_caches: " << status.message() << "\n";
  return static_cast<int>(status.code());
}
