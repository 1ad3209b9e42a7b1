// Which keys have an effect in a spec, and what to say about those that have
// none: a key that is silently ignored hides a mistake.

#include <fmt/format.h>

#include <vector>

#include "policy/spec_keys.h"

namespace pyramidkv {
namespace {

std::string OnlyWith(const CacheSpec& spec, bool used,
                     std::string_view schedules) {
  if (used) return "";
  return fmt::format("schedule={} does not use it; allowed with schedule={}",
                     FindSpecKey("schedule")->get(spec), schedules);
}

std::string WhyNoFloors(const CacheSpec& spec) {
  if (spec.heads == HeadSplit::kGlobal) {
    return "heads=global does not use it; allowed with heads=equal, and "
           "`floor` with heads=global";
  }
  if (spec.schedule == ScheduleKind::kArithmetic &&
      spec.mode != PyramidMode::kExact) {
    return fmt::format("mode={} does not use it; allowed with mode=exact",
                       FindSpecKey("mode")->get(spec));
  }
  return "";
}

}  // namespace

std::string WhyUnused(KeyUse use, const CacheSpec& spec) {
  if (use == KeyUse::kAlways) return "";
  if (!spec.compresses) {
    std::vector<std::string_view> allowed;
    for (const SpecKey& key : SpecKeys()) {
      if (key.use == KeyUse::kAlways) allowed.push_back(key.name);
    }
    return fmt::format("{} keeps every entry and does not use it; allowed: {}",
                       spec.policy, fmt::join(allowed, ", "));
  }
  const ScheduleKind schedule = spec.schedule;
  const bool linear = schedule == ScheduleKind::kLinear;
  const bool power = schedule == ScheduleKind::kPower;
  const bool recent_only = spec.select == SelectKind::kRecent;
  switch (use) {
    case KeyUse::kAlways:
    case KeyUse::kCompress:
      return "";
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
    case KeyUse::kGlobal:
      if (spec.heads == HeadSplit::kGlobal) return "";
      return "heads=equal does not use it; allowed with heads=global";
    case KeyUse::kRecent:
    case KeyUse::kScores:
      if (!recent_only) return "";
      return "select=recent does not use it; allowed with select=topk or "
             "mixed";
  }
  return "";
}

}  // namespace pyramidkv
