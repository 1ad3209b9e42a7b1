// Varied text in endless supply: what pass keys are hidden in. Generated,
// because a repeated paragraph compresses too easily (any of its copies will
// do), and a text from the world may be known to the model. Hardly a sentence
// occurs twice, and none holds a digit.

#ifndef PYRAMIDKV_EVAL_TEXT_GENERATOR_H_
#define PYRAMIDKV_EVAL_TEXT_GENERATOR_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "eval/random.h"
#include "pyramidkv/engine.h"

namespace pyramidkv {

// The length in tokens of the text, without special tokens.
using CountTokens = std::function<int(std::string_view text)>;

// Tokens as a model counts them. REQUIRES: `engine` outlives it.
CountTokens CounterOf(const Engine& engine);

class TextGenerator {
 public:
  explicit TextGenerator(CountTokens count);

  // A capital letter, words, and a full stop or question mark.
  std::string Sentence(Random* random) const;

  // Paragraphs of three to eight sentences, a line break before each, at most
  // `tokens` long and less by a few at most, where sentences of every length
  // come up. Empty if nothing fits.
  std::string Paragraphs(int tokens, Random* random) const;

  // The tokens that `text` adds after other text.
  int Cost(std::string_view text) const;

 private:
  class Filler;

  std::string Expand(std::string_view kind, Random* random) const;

  CountTokens count_;
  // Ways to say each kind of thing; "{kind}" in them stands for another.
  std::map<std::string, std::vector<std::string>, std::less<>> grammar_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_TEXT_GENERATOR_H_
