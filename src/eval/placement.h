// Which tokens of a prompt are read and compressed, and which are forced
// through the compressed cache.

#ifndef PYRAMIDKV_EVAL_PLACEMENT_H_
#define PYRAMIDKV_EVAL_PLACEMENT_H_

#include <string_view>
#include <vector>

#include "eval/prompts.h"
#include "pyramidkv/engine.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {

// The tokens of a text's beginning: with what the model puts in front of it,
// and without what some put after it. Control tokens are not parsed.
Result<std::vector<int>> TokenizeBeginning(const Engine& engine,
                                           std::string_view text);

struct PlacedPrompt {
  std::vector<int> read;    // seen by the scorers
  std::vector<int> forced;  // at least one token
};

// read + forced are the tokens of the whole prompt, in which a token may span
// two of its parts: such a token is forced. So in kAgnostic what is read does
// not depend on the question.
Result<PlacedPrompt> PlacePrompt(const Engine& engine, const Prompt& prompt,
                                 EvalPlacement placement);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_PLACEMENT_H_
