// Plain ways to count tokens, for tests without a model.

#ifndef PYRAMIDKV_EVAL_TESTING_WORD_COUNTER_H_
#define PYRAMIDKV_EVAL_TESTING_WORD_COUNTER_H_

#include <cctype>
#include <string_view>

namespace pyramidkv {

// A word with the space before it, a digit, or another character is a token.
inline int CountWords(std::string_view text) {
  int count = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool letter = std::isalpha(static_cast<unsigned char>(c)) != 0;
    if (c != ' ' && !(letter && in_word)) ++count;
    in_word = letter;
  }
  return count;
}

// The same where ".\n" is one token, as in llama 3's vocabulary.
inline int CountJoining(std::string_view text) {
  int count = CountWords(text);
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '.' && text[i + 1] == '\n') --count;
  }
  return count;
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_EVAL_TESTING_WORD_COUNTER_H_
