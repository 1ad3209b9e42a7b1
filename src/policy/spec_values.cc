#include "policy/spec_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

namespace pyramidkv {
namespace {

struct Unit {
  std::string_view name;
  int64_t bytes;
};
constexpr Unit kUnits[] = {
    {"GiB", int64_t{1} << 30}, {"MiB", int64_t{1} << 20}, {"KiB", 1 << 10}};

// "64MiB", and "64mib" as well.
bool EndsWithUnit(std::string_view text, std::string_view unit) {
  if (text.size() < unit.size()) return false;
  return std::equal(unit.begin(), unit.end(), text.end() - unit.size(),
                    [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

template <typename T>
std::optional<T> FromChars(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// Levenshtein distance: insertions, deletions and replacements.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

}  // namespace

Status BadValue(std::string_view key, std::string_view value,
                std::string_view allowed) {
  return Status::Usage(
      fmt::format("{}={}: not supported; allowed: {}", key, value, allowed));
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  return FromChars<int64_t>(text);
}

std::optional<double> ParseNumber(std::string_view text) {
  const auto value = FromChars<double>(text);
  if (!value || !std::isfinite(*value)) return std::nullopt;
  return value;
}

std::optional<int64_t> ParseBytes(std::string_view text) {
  for (const Unit& unit : kUnits) {
    if (!EndsWithUnit(text, unit.name)) continue;
    text.remove_suffix(unit.name.size());
    const auto number = ParseNumber(text);
    // 2^53: up to here a double holds every whole number of bytes.
    if (!number || *number < 0 || *number * unit.bytes > 9007199254740992.0) {
      return std::nullopt;
    }
    return static_cast<int64_t>(*number * unit.bytes);
  }
  return ParseInteger(text);
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes >= unit.bytes && bytes % unit.bytes == 0) {
      return fmt::format("{}{}", bytes / unit.bytes, unit.name);
    }
  }
  return fmt::format("{}", bytes);
}

const DepthTable& StepsTable() {
  static const auto* const table =
      new DepthTable{{0.0, 1.0}, {0.1, 0.9},  {0.2, 0.8}, {0.4, 0.6},
                     {0.6, 0.4}, {0.8, 0.25}, {1.0, 0.15}};
  return *table;
}

std::optional<DepthTable> ParseTable(std::string_view text) {
  if (text == "steps") return StepsTable();
  DepthTable table;
  double last_depth = -1;
  for (std::string_view item : Split(text, '/')) {
    const size_t colon = item.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto depth = ParseNumber(item.substr(0, colon));
    const auto share = ParseNumber(item.substr(colon + 1));
    if (!depth || !share) return std::nullopt;
    if (*depth < 0 || *depth > 1 || *depth <= last_depth) return std::nullopt;
    if (*share < 0 || *share > 1) return std::nullopt;
    last_depth = *depth;
    table.emplace_back(*depth, *share);
  }
  return table;
}

std::string FormatTable(const DepthTable& table) {
  if (table == StepsTable()) return "steps";
  std::string text;
  for (const auto& [depth, share] : table) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : "/", depth, share);
  }
  return text;
}

std::optional<std::vector<int>> ParseBudgets(std::string_view text) {
  std::vector<int> budgets;
  for (std::string_view item : Split(text, ':')) {
    const auto value = ParseInteger(item);
    if (!value || *value < 1 || *value > std::numeric_limits<int>::max()) {
      return std::nullopt;
    }
    budgets.push_back(static_cast<int>(*value));
  }
  return budgets;
}

std::string FormatBudgets(const std::vector<int>& budgets) {
  return fmt::format("{}", fmt::join(budgets, ":"));
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string DidYouMean(std::string_view text,
                       const std::vector<std::string_view>& names) {
  std::string_view best;
  size_t best_distance = 3;  // more than two slips is another word
  for (std::string_view name : names) {
    const size_t distance = EditDistance(text, name);
    if (distance < best_distance && distance * 2 < name.size()) {
      best = name;
      best_distance = distance;
    }
  }
  if (best.empty()) return "";
  return fmt::format("; did you mean \"{}\"?", best);
}

}  // namespace pyramidkv
