// Small evaluations over tiny random models, for tests.

#ifndef PYRAMIDKV_EVAL_TESTING_TINY_EVAL_H_
#define PYRAMIDKV_EVAL_TESTING_TINY_EVAL_H_

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "pyramidkv/eval.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {

// In its vocabulary nearly every character is a token.
inline std::unique_ptr<Engine> TinyEvalEngine() {
  TinyGgufOptions options;
  options.layers = 3;
  options.context_length = 1024;
  options.tied_output = false;  // or it repeats its last token
  return TinyEngine(options, 2, Compute::kF32);
}

inline std::vector<EvalTrial> RunOk(Engine* engine, const EvalOptions& options,
                                    const std::vector<EvalTrial>& done = {},
                                    const EvalCallbacks& callbacks = {}) {
  auto trials = RunEval(engine, options, done, callbacks);
  EXPECT_TRUE(trials.ok()) << trials.status().message();
  return trials.ok() ? *trials : std::vector<EvalTrial>();
}

// Trials as lines, the one form that shows everything.
inline std::string Lines(const Engine& engine, const EvalOptions& options,
                         const std::vector<EvalTrial>& trials) {
  std::string lines;
  for (const EvalTrial& trial : trials) {
    lines += FormatEvalTrial(engine, options, trial) + "\n";
  }
  return lines;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_TESTING_TINY_EVAL_H_
