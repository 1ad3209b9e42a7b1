#include "text/control_tokens.h"

#include <algorithm>
#include <cctype>
#include <list>
#include <set>
#include <utility>

namespace pyramidkv {
namespace {

using Ranges = std::vector<std::pair<size_t, size_t>>;

// Ranges are ascending and apart.
bool Touches(const Ranges& ranges, size_t begin, size_t end) {
  const auto next = std::partition_point(
      ranges.begin(), ranges.end(),
      [begin](const auto& range) { return range.second <= begin; });
  return next != ranges.end() && next->first < end;
}

bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

std::string_view TrimRight(std::string_view text) {
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view TrimLeft(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  return text;
}

// The bytes of the UTF-8 character that begins with `lead`.
size_t CharacterBytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Adds [begin, end) to ranges that may overlap.
Ranges Merged(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges merged;
  for (const auto& [begin, end] : ranges) {
    if (!merged.empty() && begin <= merged.back().second) {
      merged.back().second = std::max(merged.back().second, end);
    } else {
      merged.emplace_back(begin, end);
    }
  }
  return merged;
}

// Cuts `token` out of the part at `part`, and returns the part behind it.
std::list<TextPart>::iterator Cut(const SpecialToken& token,
                                  const ChatText& chat,
                                  std::list<TextPart>::iterator part,
                                  std::list<TextPart>* parts) {
  const auto text = std::get<std::string_view>(*part);
  const size_t offset = static_cast<size_t>(text.data() - chat.text.data());
  size_t at = text.find(token.text);
  while (at != text.npos && token.control &&
         Touches(chat.said, offset + at, offset + at + token.text.size())) {
    at = text.find(token.text, at + 1);
  }
  if (at == text.npos) return std::next(part);
  std::string_view left = text.substr(0, at);
  std::string_view right = text.substr(at + token.text.size());
  if (token.strips_left) left = TrimRight(left);
  if (token.strips_right) right = TrimLeft(right);
  if (!left.empty()) parts->insert(part, left);
  parts->insert(part, token.id);
  if (right.empty()) return parts->erase(part);
  *part = right;
  return part;
}

}  // namespace

SpecialTokens::SpecialTokens(std::vector<SpecialToken> tokens)
    : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const SpecialToken& a, const SpecialToken& b) {
                     return a.text.size() > b.text.size();
                   });
}

std::vector<TextPart> SpecialTokens::Split(const ChatText& chat) const {
  std::list<TextPart> parts;
  if (!chat.text.empty()) parts.emplace_back(std::string_view(chat.text));
  for (const SpecialToken& token : tokens_) {
    for (auto part = parts.begin(); part != parts.end();) {
      part = std::holds_alternative<int>(*part)
                 ? std::next(part)
                 : Cut(token, chat, part, &parts);
    }
  }
  return {parts.begin(), parts.end()};
}

std::string SpecialTokens::Mark(std::string_view text,
                                std::string_view mark) const {
  std::set<size_t> starts;
  for (const SpecialToken& token : tokens_) {
    if (!token.control) continue;
    for (size_t at = text.find(token.text); at != text.npos;
         at = text.find(token.text, at + 1)) {
      starts.insert(at);
    }
  }
  std::string marked;
  size_t done = 0;
  for (const size_t start : starts) {
    const size_t end = start + CharacterBytes(text[start]);
    marked += text.substr(done, end - done);
    marked += mark;
    done = end;
  }
  return marked += text.substr(done);
}

ChatText WithoutMarks(const ChatText& chat, std::string_view mark) {
  ChatText clean;
  Ranges said;
  std::vector<size_t> removed;  // offsets of the marks in chat.text
  size_t done = 0;
  for (size_t at = chat.text.find(mark); at != chat.text.npos;
       at = chat.text.find(mark, done)) {
    clean.text += std::string_view(chat.text).substr(done, at - done);
    done = at + mark.size();
    removed.push_back(at);
    size_t begin = clean.text.size();
    while (begin > 0 && (clean.text[--begin] & 0xC0) == 0x80) {
    }
    said.emplace_back(begin, clean.text.size());
  }
  clean.text += std::string_view(chat.text).substr(done);
  const auto moved = [&](size_t offset) {
    const auto before =
        std::lower_bound(removed.begin(), removed.end(), offset);
    return offset - mark.size() * size_t(before - removed.begin());
  };
  for (const auto& [begin, end] : chat.said) {
    if (moved(begin) < moved(end)) said.emplace_back(moved(begin), moved(end));
  }
  clean.said = Merged(std::move(said));
  return clean;
}

std::string UnusedCharacter(std::initializer_list<std::string_view> texts) {
  // The private use area: U+E000 to U+F8FF, three bytes each.
  for (unsigned code = 0xE000; code < 0xF900; ++code) {
    std::string character = {static_cast<char>(0xE0 | (code >> 12)),
                             static_cast<char>(0x80 | (code >> 6 & 0x3F)),
                             static_cast<char>(0x80 | (code & 0x3F))};
    const bool used =
        std::any_of(texts.begin(), texts.end(), [&](std::string_view text) {
          return text.find(character) != text.npos;
        });
    if (!used) return character;
  }
  return "";
}

}  // namespace pyramidkv
