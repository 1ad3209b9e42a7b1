// The grammar of generated text.

#ifndef PYRAMIDKV_EVAL_GRAMMAR_H_
#define PYRAMIDKV_EVAL_GRAMMAR_H_

#include <span>
#include <string_view>

namespace pyramidkv {

// Ways to say one kind of thing, separated by '|'; "{kind}" in them stands for
// another kind. "sentence" is where it begins.
struct GrammarRule {
  std::string_view kind;
  std::string_view choices;
};

std::span<const GrammarRule> TextGrammar();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_GRAMMAR_H_
