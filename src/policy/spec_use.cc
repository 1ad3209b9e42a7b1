// Which keys have an effect in a spec, and what to say about those that have
// none: a key that is silently ignored hides a mistake.

#include <fmt/format.h>

#include <vector>

#include "policy/scorer.h"
#include "policy/spec_keys.h"

namespace pyramidkv {
namespace {

std::string OnlyWith(const CacheSpec& spec, bool used,
                     std::string_view schedules) {
  if (used) return "";
  return fmt::format("schedule={} does not use it; allowed with schedule={}",
                     FindSpecKey("schedule")->get(spec), schedules);
}

std::string WhyNotFrom(const CacheSpec& spec) {
  if (!spec.budget.bounded()) return "";
  const char* bound = spec.budget.tokens ? "tokens" : "memory";
  return fmt::format(
      "{}={} holds from the first token on and does not use it; allowed with "
      "keep=SHARE",
      bound, FindSpecKey(bound)->get(spec));
}

std::string WhyNotRanked(const CacheSpec& spec) {
  if (spec.score.scorer == nullptr) {
    return fmt::format(
        "{} keeps recent entries and ranks none; allowed with "
        "policies that score entries",
        spec.policy);
  }
  if (spec.score.select != SelectKind::kRecent) return "";
  return "select=recent does not use it; allowed with select=topk or mixed";
}

// A key of the scorers with a trait.
std::string OnlyScorers(const CacheSpec& spec, YesNo ScorerTraits::*trait,
                        std::string_view which) {
  std::string why = WhyNotRanked(spec);
  if (!why.empty() || spec.score.scorer->traits().*trait) return why;
  return fmt::format(
      "{} does not use it; allowed with policies that rank by "
      "{}",
      spec.policy, which);
}

std::string WhyNoFloors(const CacheSpec& spec) {
  if (spec.budget.heads == HeadSplit::kGlobal) {
    return "heads=global does not use it; allowed with heads=equal, and "
           "`floor` with heads=global";
  }
  if (spec.budget.heads == HeadSplit::kProfile) {
    return "heads=profile does not use it; allowed with heads=equal";
  }
  if (spec.budget.schedule == ScheduleKind::kArithmetic &&
      spec.budget.mode != PyramidMode::kExact) {
    return fmt::format("mode={} does not use it; allowed with mode=exact",
                       FindSpecKey("mode")->get(spec));
  }
  return "";
}

std::string WhyNoColdTier(KeyUse use, const CacheSpec& spec) {
  if (spec.tier.remainder != Remainder::kOffload) {
    return fmt::format(
        "remainder={} does not use it; allowed with remainder=offload",
        FindSpecKey("remainder")->get(spec));
  }
  if (use == KeyUse::kSkew && spec.tier.index != IndexKind::kSkew) {
    return fmt::format("index={} does not use it; allowed with index=skew",
                       FindSpecKey("index")->get(spec));
  }
  if (use == KeyUse::kVictim && spec.tier.resident == 1) {
    return "resident=1 keeps all blocks in memory; allowed with resident below "
           "1";
  }
  return "";
}

std::string WhyNotQuantized(const CacheSpec& spec) {
  if (IsQuantized(spec.storage.type_k) || IsQuantized(spec.storage.type_v))
    return "";
  return fmt::format(
      "type_k={} and type_v={} do not use it; allowed with int8, int4 and int2",
      FindSpecKey("type_k")->get(spec), FindSpecKey("type_v")->get(spec));
}

}  // namespace

std::string WhyUnused(KeyUse use, const CacheSpec& spec) {
  if (use == KeyUse::kAlways) return "";
  if (use == KeyUse::kQuantized) return WhyNotQuantized(spec);
  if (!spec.compresses) {
    std::vector<std::string_view> allowed;
    for (const SpecKey& key : SpecKeys()) {
      if (key.use == KeyUse::kAlways || key.use == KeyUse::kQuantized) {
        allowed.push_back(key.name);
      }
    }
    return fmt::format("{} keeps every entry and does not use it; allowed: {}",
                       spec.policy, fmt::join(allowed, ", "));
  }
  const ScheduleKind schedule = spec.budget.schedule;
  const bool linear = schedule == ScheduleKind::kLinear;
  const bool power = schedule == ScheduleKind::kPower;
  switch (use) {
    case KeyUse::kAlways:
    case KeyUse::kQuantized:
    case KeyUse::kCompress:
      return "";
    case KeyUse::kFrom:
      return WhyNotFrom(spec);
    case KeyUse::kRatio:
      return OnlyWith(spec, linear || power, "linear or power");
    case KeyUse::kExponent:
      return OnlyWith(spec, power, "power");
    case KeyUse::kArithmetic:
      return OnlyWith(spec, schedule == ScheduleKind::kArithmetic,
                      "arithmetic");
    case KeyUse::kTable:
      return OnlyWith(spec, schedule == ScheduleKind::kTable, "table");
    case KeyUse::kCustom:
      return OnlyWith(spec, schedule == ScheduleKind::kCustom, "custom");
    case KeyUse::kFloors:
      return WhyNoFloors(spec);
    case KeyUse::kFloor:
      if (spec.budget.heads == HeadSplit::kGlobal ||
          spec.budget.heads == HeadSplit::kAdaptive) {
        return "";
      }
      return fmt::format(
          "heads={} does not use it; allowed with heads=adaptive or global",
          FindSpecKey("heads")->get(spec));
    case KeyUse::kProfile:
      if (spec.budget.heads == HeadSplit::kProfile) return "";
      return fmt::format("heads={} does not use it; allowed with heads=profile",
                         FindSpecKey("heads")->get(spec));
    case KeyUse::kRecent:
      if (spec.budget.heads == HeadSplit::kProfile ||
          spec.score.select != SelectKind::kRecent) {
        return "";
      }
      return "select=recent does not use it; allowed with select=topk or "
             "mixed";
    case KeyUse::kRanks:
      return WhyNotRanked(spec);
    case KeyUse::kTop: {
      const std::string why = WhyNotQuantized(spec);
      return why.empty() ? WhyNotRanked(spec) : why;
    }
    case KeyUse::kTopShare:
      if (spec.storage.ranks_top()) return "";
      return "no entries are held finer by rank; allowed with top_type=CODEC";
    case KeyUse::kWindow:
      return OnlyScorers(spec, &ScorerTraits::window,
                         "the attention of the last queries (snapkv)");
    case KeyUse::kGroup:
      return OnlyScorers(spec, &ScorerTraits::query_heads, "attention");
    case KeyUse::kSums:
      return OnlyScorers(spec, &ScorerTraits::sums,
                         "the attention of all queries (h2o)");
    case KeyUse::kSlack:
      if (spec.budget.evict != Evict::kPrefill) return "";
      return "evict=prefill does not use it; allowed with evict=decode or both";
    case KeyUse::kCluster:
      if (spec.tier.remainder == Remainder::kCluster) return "";
      return fmt::format(
          "remainder={} does not use it; allowed with remainder=cluster",
          FindSpecKey("remainder")->get(spec));
    case KeyUse::kOffload:
    case KeyUse::kSkew:
    case KeyUse::kVictim:
      return WhyNoColdTier(use, spec);
  }
  return "";
}

}  // namespace pyramidkv
