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

}  // namespace pyramidkv
