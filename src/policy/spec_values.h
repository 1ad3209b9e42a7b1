// Values of the cache spec as text: numbers, sizes, lists, near misses.

#ifndef PYRAMIDKV_POLICY_SPEC_VALUES_H_
#define PYRAMIDKV_POLICY_SPEC_VALUES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv {

// The one sentence for a value that is not allowed.
Status BadValue(std::string_view key, std::string_view value,
                std::string_view allowed);

// Whole text or nothing; no spaces, no infinities, no NaN.
std::optional<int64_t> ParseInteger(std::string_view text);
std::optional<double> ParseNumber(std::string_view text);

// Bytes: an integer, or a number with KiB, MiB or GiB ("64MiB", "1.5GiB").
std::optional<int64_t> ParseBytes(std::string_view text);
// The largest unit that divides the number: "64MiB", "1000".
std::string FormatBytes(int64_t bytes);

// "0:1/0.5:0.6/1:0.15" or "steps": depths in [0, 1], rising; shares in [0, 1].
using DepthTable = std::vector<std::pair<double, double>>;
std::optional<DepthTable> ParseTable(std::string_view text);
std::string FormatTable(const DepthTable& table);
// 100, 90, 80, 60, 40, 25 and 15 % at depths 0, 5, 10, 20, 30, 40, 50 of 50.
const DepthTable& StepsTable();

// "512:400:300": entries per layer, each at least 1.
std::optional<std::vector<int>> ParseBudgets(std::string_view text);
std::string FormatBudgets(const std::vector<int>& budgets);

std::vector<std::string_view> Split(std::string_view text, char separator);

// `; did you mean "x"?`, or nothing where no name is near.
std::string DidYouMean(std::string_view text,
                       const std::vector<std::string_view>& names);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_VALUES_H_
