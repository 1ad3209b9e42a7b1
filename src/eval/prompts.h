// Long contexts with facts hidden in them, and the question about one of them.

#ifndef PYRAMIDKV_EVAL_PROMPTS_H_
#define PYRAMIDKV_EVAL_PROMPTS_H_

#include <string>
#include <vector>

#include "eval/random.h"
#include "eval/text_generator.h"
#include "pyramidkv/eval.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// context + question + prefix is the prompt; the answer follows.
struct Prompt {
  std::string context;
  std::string question;  // asks
  std::string prefix;    // begins the answer
  std::string expected;  // what comes next, without the space before it
  double depth = 0;      // of the fact: 0 at the beginning, 1 at the end
};

// Where the fact of `trial` stands: of options.depths in turn, or else a step
// of the golden ratio from trial to trial, which spreads any number of trials
// evenly and gives a trial the same depth whatever their number is.
double DepthOfTrial(const EvalOptions& options, int trial);

// The prompt of kPasskey or kNeedle. Its context has options.tokens tokens,
// up to three fewer or more (in a vocabulary of words; sentences are fitted
// in). The same options and trial give the same prompt.
// Errors: kUsage where the fact alone is longer than that.
Result<Prompt> MakePrompt(const TextGenerator& generator,
                          const EvalOptions& options, int trial);

// Text of at least `tokens` tokens, for kKl.
std::string MakeText(const TextGenerator& generator, int tokens,
                     const EvalOptions& options, int trial);

struct Fact {
  std::string text;
  double depth = 0;
};

// The introduction and filler with each fact as a paragraph at its depth.
// Errors: kUsage where they are longer than `tokens`.
Result<std::string> HideFacts(const TextGenerator& generator,
                              std::vector<Fact> facts, int tokens,
                              Random random);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_PROMPTS_H_
