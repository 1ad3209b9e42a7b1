// How keys of the cache spec read and print members of its groups: names of
// enumerators, integers, numbers. For the files of the groups alone.

#ifndef PYRAMIDKV_POLICY_SPEC_SETTERS_H_
#define PYRAMIDKV_POLICY_SPEC_SETTERS_H_

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "policy/spec.h"
#include "policy/spec_values.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

inline constexpr int kMaxInt = 1 << 30;  // room for sums of a few of them

template <typename E>
struct Name {
  std::string_view name;
  E value;
};

// The group of a spec that has members of type G::*.
template <class G, class Spec>
auto& GroupIn(Spec& spec) {
  if constexpr (std::is_same_v<G, BudgetSpec>) return spec.budget;
  if constexpr (std::is_same_v<G, ScoreSpec>) return spec.score;
  if constexpr (std::is_same_v<G, StorageSpec>) return spec.storage;
  if constexpr (std::is_same_v<G, TierSpec>) return spec.tier;
  if constexpr (std::is_same_v<G, CacheSpec>) return spec;
}

template <auto kMember>
struct MemberOf;
template <class G, class T, T G::*kMember>
struct MemberOf<kMember> {
  template <class Spec>
  static auto& In(Spec& spec) {
    return GroupIn<G>(spec).*kMember;
  }
};

template <auto kMember, const auto& kNames>
Status SetName(std::string_view key, std::string_view value, CacheSpec* spec) {
  std::vector<std::string_view> allowed;
  for (const auto& n : kNames) {
    if (n.name == value) {
      MemberOf<kMember>::In(*spec) = n.value;
      return Status();
    }
    allowed.push_back(n.name);
  }
  return BadValue(key, value, fmt::format("{}", fmt::join(allowed, ", ")));
}

template <auto kMember, const auto& kNames>
std::string GetName(const CacheSpec& spec) {
  for (const auto& n : kNames) {
    if (n.value == MemberOf<kMember>::In(spec)) return std::string(n.name);
  }
  return "";
}

template <auto kMember, int kLow, int kHigh = kMaxInt>
Status SetInteger(std::string_view key, std::string_view value,
                  CacheSpec* spec) {
  const auto number = ParseInteger(value);
  if (!number || *number < kLow || *number > kHigh) {
    return BadValue(key, value,
                    fmt::format("an integer from {} to {}", kLow, kHigh));
  }
  MemberOf<kMember>::In(*spec) = static_cast<int>(*number);
  return Status();
}

template <auto kMember, int kLow, int kHigh>
Status SetNumber(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  const auto number = ParseNumber(value);
  if (!number || !(*number >= kLow) || !(*number <= kHigh)) {
    return BadValue(key, value,
                    fmt::format("a number from {} to {}", kLow, kHigh));
  }
  MemberOf<kMember>::In(*spec) = *number;
  return Status();
}

// A number above 0: `keep` (its share of all entries) and `exponent`.
template <auto kMember, int kHigh>
Status SetPositive(std::string_view key, std::string_view value,
                   CacheSpec* spec) {
  const auto number = ParseNumber(value);
  if (!number || !(*number > 0) || !(*number <= kHigh)) {
    return BadValue(key, value,
                    fmt::format("a number above 0, at most {}", kHigh));
  }
  MemberOf<kMember>::In(*spec) = *number;
  return Status();
}

template <auto kMember>
std::string GetValue(const CacheSpec& spec) {
  return fmt::format("{}", MemberOf<kMember>::In(spec));
}

template <auto kMember>
std::string GetOptional(const CacheSpec& spec) {
  const auto& value = MemberOf<kMember>::In(spec);
  return value ? fmt::format("{}", *value) : "";
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_SETTERS_H_
