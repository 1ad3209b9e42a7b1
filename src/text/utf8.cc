#include "text/utf8.h"

#include <algorithm>

namespace pyramidkv {
namespace {

enum class State { kWhole, kCutOff, kInvalid };

// The character at the start of a text, or the longest part of one.
struct Character {
  State state;
  size_t length;  // >= 1
};

// How many bytes a lead byte asks for, and what the second one may be. The
// narrow ranges exclude overlong forms, surrogates and what is past U+10FFFF.
struct Lead {
  size_t length;  // 0: not a lead byte
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

Lead ReadLead(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// REQUIRES: text is not empty.
Character ReadCharacter(std::string_view text) {
  const Lead lead = ReadLead(static_cast<unsigned char>(text[0]));
  if (lead.length == 0) return {State::kInvalid, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {State::kCutOff, i};
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {State::kInvalid, i};
  }
  return {State::kWhole, lead.length};
}

}  // namespace

size_t FirstInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Character c = ReadCharacter(text.substr(at));
    if (c.state != State::kWhole) return at;
    at += c.length;
  }
  return std::string_view::npos;
}

size_t IncompleteSuffix(std::string_view text) {
  const size_t longest = std::min<size_t>(3, text.size());
  for (size_t length = longest; length > 0; --length) {
    const Character c = ReadCharacter(text.substr(text.size() - length));
    if (c.state == State::kCutOff && c.length == length) return length;
  }
  return 0;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = ReadCharacter(text);
    if (c.state == State::kWhole) {
      out += text.substr(0, c.length);
    } else {
      out += "\xEF\xBF\xBD";  // U+FFFD
    }
    text.remove_prefix(c.length);
  }
  return out;
}

}  // namespace pyramidkv
