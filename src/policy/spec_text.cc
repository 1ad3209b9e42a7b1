#include <fmt/format.h>

#include <vector>

#include "policy/spec_values.h"
#include "pyramidkv/cache_spec.h"

namespace pyramidkv {
namespace {

// The key of "key=value"; else empty.
std::string_view KeyOf(std::string_view part) {
  const size_t equals = part.find('=');
  return equals == part.npos ? "" : part.substr(0, equals);
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return "";
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string SmallLetters(std::string_view text) {
  std::string small(text);
  for (char& c : small) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return small;
}

std::string TidyValue(std::string_view key, std::string_view value) {
  if (key == "profile" || key == "memory") return std::string(value);
  std::string small = SmallLetters(value);
  if (key.find("type") == key.npos) return small;
  if (small == "q8_0") return "int8";
  return small == "q4_0" ? "int4" : small;
}

}  // namespace

std::optional<std::string> CacheSpecValue(std::string_view spec,
                                          std::string_view key) {
  for (std::string_view part : Split(spec, ',')) {
    if (!key.empty() && KeyOf(part) == key) {
      return std::string(part.substr(key.size() + 1));
    }
  }
  return std::nullopt;
}

std::string SetCacheSpecValue(std::string_view spec, std::string_view key,
                              std::string_view value) {
  const std::string item = fmt::format("{}={}", key, value);
  std::vector<std::string_view> parts = Split(spec, ',');
  bool given = false;
  for (std::string_view& part : parts) {
    if (KeyOf(part) != key) continue;
    part = item;
    given = true;
  }
  if (!given) parts.push_back(item);
  return fmt::format("{}", fmt::join(parts, ","));
}

std::string TidyCacheSpec(std::string_view spec) {
  std::vector<std::string> tidy;
  for (const std::string_view part : Split(spec, ',')) {
    const size_t equals = part.find('=');
    const std::string key = SmallLetters(Trim(part.substr(0, equals)));
    tidy.push_back(
        equals == part.npos
            ? key
            : fmt::format("{}={}", key,
                          TidyValue(key, Trim(part.substr(equals + 1)))));
  }
  return fmt::format("{}", fmt::join(tidy, ","));
}

}  // namespace pyramidkv
