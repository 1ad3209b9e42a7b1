// Control tokens in text: where they are, and where they must not be.

#ifndef PYRAMIDKV_TEXT_CONTROL_TOKENS_H_
#define PYRAMIDKV_TEXT_CONTROL_TOKENS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pyramidkv/engine.h"

namespace pyramidkv {

// A token that libllama finds in text before it tokenises the rest.
struct SpecialToken {
  std::string text;
  int id = 0;
  bool control = false;  // not found in what messages say
  bool strips_left = false, strips_right = false;  // white space beside it
};

// A token, or text between tokens.
using TextPart = std::variant<int, std::string_view>;

// Immutable.
class SpecialTokens {
 public:
  // REQUIRES: no text is empty.
  explicit SpecialTokens(std::vector<SpecialToken> tokens = {});

  // `chat` cut as libllama cuts text, longer tokens first, but for control
  // tokens that touch what was said. The parts are views of chat.text.
  std::vector<TextPart> Split(const ChatText& chat) const;

  // `text` with `mark` behind the first character of every control token, so
  // that it is none.
  std::string Mark(std::string_view text, std::string_view mark) const;

 private:
  std::vector<SpecialToken> tokens_;  // by length, longest first
};

// Takes the marks out of a rendered text: what stands before them was said.
ChatText WithoutMarks(const ChatText& chat, std::string_view mark);

// A character that is in none of `texts`; empty if there is none.
std::string UnusedCharacter(std::initializer_list<std::string_view> texts);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_CONTROL_TOKENS_H_
