#include "policy/tier_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "policy/spec_checks.h"
#include "policy/spec_keys.h"
#include "policy/spec_setters.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr int kMaxClusters = 1 << 20;

constexpr Name<Remainder> kRemainders[] = {{"drop", Remainder::kDrop},
                                           {"cluster", Remainder::kCluster},
                                           {"offload", Remainder::kOffload}};
constexpr Name<MergeRule> kMerges[] = {{"mean", MergeRule::kMean},
                                       {"attention", MergeRule::kAttention},
                                       {"cosine", MergeRule::kCosine}};
constexpr Name<IndexKind> kIndexes[] = {{"sign", IndexKind::kSign},
                                        {"skew", IndexKind::kSkew},
                                        {"quest", IndexKind::kQuest},
                                        {"cluster", IndexKind::kCluster}};
constexpr Name<Victim> kVictims[] = {{"fifo", Victim::kFifo},
                                     {"lru", Victim::kLru},
                                     {"counter", Victim::kCounter}};

// A share of each head's budget, or a number.
Status SetClusters(std::string_view key, std::string_view value,
                   CacheSpec* spec) {
  const auto number = ParseNumber(value);
  const bool whole = number && *number >= 1 && *number <= kMaxClusters &&
                     *number == std::floor(*number);
  if (!number || !(*number > 0) || (*number >= 1 && !whole)) {
    return BadValue(key, value,
                    fmt::format("a share below 1 of each head's budget, or a "
                                "number of clusters from 1 to {}",
                                kMaxClusters));
  }
  spec->tier.clusters = *number;
  return Status();
}

using S = TierSpec;
constexpr SpecKey kKeys[] = {
    {"remainder", KeyUse::kCompress, SetName<&S::remainder, kRemainders>,
     GetName<&S::remainder, kRemainders>},
    {"clusters", KeyUse::kCluster, SetClusters, GetValue<&S::clusters>},
    {"merge", KeyUse::kCluster, SetName<&S::merge, kMerges>,
     GetName<&S::merge, kMerges>},
    {"index", KeyUse::kOffload, SetName<&S::index, kIndexes>,
     GetName<&S::index, kIndexes>},
    {"partial", KeyUse::kSkew, SetPositive<&S::partial, 1>,
     GetValue<&S::partial>},
    {"alpha", KeyUse::kOffload, SetPositive<&S::alpha, 100>,
     GetValue<&S::alpha>},
    {"fetch", KeyUse::kOffload, SetPositive<&S::fetch, 1>, GetValue<&S::fetch>},
    {"resident", KeyUse::kOffload, SetPositive<&S::resident, 1>,
     GetValue<&S::resident>},
    {"victim", KeyUse::kVictim, SetName<&S::victim, kVictims>,
     GetName<&S::victim, kVictims>},
};

}  // namespace

std::string_view IndexName(IndexKind kind) {
  return std::find_if(std::begin(kIndexes), std::end(kIndexes),
                      [&](const auto& n) { return n.value == kind; })
      ->name;
}

std::span<const SpecKey> TierKeys() { return kKeys; }

Status CheckRemainder(const CacheSpec& s) {
  if (s.tier.remainder == Remainder::kCluster) {
    const std::string why = WhyUnused(KeyUse::kRanks, s);
    if (!why.empty()) {
      return Status::Usage(fmt::format("remainder=cluster: {}", why));
    }
    if (s.budget.heads == HeadSplit::kGlobal) {
      return Status::Usage(
          "remainder=cluster does not work with heads=global, which drops "
          "entries before all are known; allowed: heads=equal or adaptive");
    }
  }
  if (s.tier.remainder != Remainder::kOffload) return Status();
  if (s.storage.positions == Positions::kRenumber) {
    return Status::Usage(
        "remainder=offload does not work with positions=renumber, which would "
        "have to rotate what lies in the cold tier; allowed: "
        "positions=original");
  }
  if (s.budget.memory) {
    return Status::Usage(
        "memory bounds the whole cache, and remainder=offload keeps all of it; "
        "allowed: keep or tokens, and resident=SHARE for the cold tier");
  }
  if (s.budget.sliding_window > 0) {
    return Status::Usage(fmt::format(
        "remainder=offload does not go with sliding_window={}, behind which "
        "nothing is seen any more; allowed: sliding_window=0, or "
        "remainder=drop",
        s.budget.sliding_window));
  }
  return Status();
}

}  // namespace pyramidkv
