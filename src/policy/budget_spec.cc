#include "policy/budget_spec.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "policy/spec_checks.h"
#include "policy/spec_keys.h"
#include "policy/spec_setters.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr Name<ScheduleKind> kSchedules[] = {
    {"uniform", ScheduleKind::kUniform},
    {"linear", ScheduleKind::kLinear},
    {"power", ScheduleKind::kPower},
    {"table", ScheduleKind::kTable},
    {"arithmetic", ScheduleKind::kArithmetic},
    {"custom", ScheduleKind::kCustom}};
constexpr Name<PyramidMode> kModes[] = {{"exact", PyramidMode::kExact},
                                        {"reference", PyramidMode::kReference},
                                        {"kvpress", PyramidMode::kKvpress}};
constexpr Name<HeadSplit> kHeads[] = {{"equal", HeadSplit::kEqual},
                                      {"adaptive", HeadSplit::kAdaptive},
                                      {"global", HeadSplit::kGlobal},
                                      {"profile", HeadSplit::kProfile}};
constexpr Name<Evict> kEvicts[] = {{"prefill", Evict::kPrefill},
                                   {"decode", Evict::kDecode},
                                   {"both", Evict::kBoth}};

Status SetMemory(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  const auto bytes = ParseBytes(value);
  if (!bytes || *bytes < 1) {
    return BadValue(key, value,
                    "bytes above 0, or a number with KiB, MiB or GiB");
  }
  spec->budget.memory = bytes;
  return Status();
}

std::string GetMemory(const CacheSpec& spec) {
  return spec.budget.memory ? FormatBytes(*spec.budget.memory) : "";
}

Status SetTable(std::string_view key, std::string_view value, CacheSpec* spec) {
  auto table = ParseTable(value);
  if (!table) {
    return BadValue(key, value,
                    "steps, or DEPTH:SHARE/DEPTH:SHARE/... with rising depths "
                    "and shares from 0 to 1 (0:1/0.5:0.6/1:0.15)");
  }
  spec->budget.table = *std::move(table);
  return Status();
}

std::string GetTable(const CacheSpec& s) { return FormatTable(s.budget.table); }

Status SetBudgets(std::string_view key, std::string_view value,
                  CacheSpec* spec) {
  auto budgets = ParseBudgets(value);
  if (!budgets) {
    return BadValue(key, value,
                    "one integer above 0 for each layer, separated by ':' "
                    "(512:400:300)");
  }
  spec->budget.budgets = *std::move(budgets);
  return Status();
}

std::string GetBudgets(const CacheSpec& s) {
  return FormatBudgets(s.budget.budgets);
}

Status SetProfile(std::string_view key, std::string_view value,
                  CacheSpec* spec) {
  if (value.empty()) return BadValue(key, value, "the path of a profile");
  spec->budget.profile = std::string(value);
  return Status();
}

std::string GetProfile(const CacheSpec& s) { return s.budget.profile; }

using S = BudgetSpec;
constexpr SpecKey kKeys[] = {
    {"keep", KeyUse::kCompress, SetPositive<&S::keep, 1>,
     GetOptional<&S::keep>},
    {"tokens", KeyUse::kCompress, SetInteger<&S::tokens, 1>,
     GetOptional<&S::tokens>},
    {"memory", KeyUse::kCompress, SetMemory, GetMemory},
    {"from", KeyUse::kFrom, SetInteger<&S::from, 0>, GetValue<&S::from>},
    {"schedule", KeyUse::kCompress, SetName<&S::schedule, kSchedules>,
     GetName<&S::schedule, kSchedules>},
    {"ratio", KeyUse::kRatio, SetNumber<&S::ratio, 0, 1>, GetValue<&S::ratio>},
    {"exponent", KeyUse::kExponent, SetPositive<&S::exponent, 100>,
     GetValue<&S::exponent>},
    {"beta", KeyUse::kArithmetic, SetNumber<&S::beta, 1, 1000000>,
     GetValue<&S::beta>},
    {"mode", KeyUse::kArithmetic, SetName<&S::mode, kModes>,
     GetName<&S::mode, kModes>},
    {"table", KeyUse::kTable, SetTable, GetTable},
    {"budgets", KeyUse::kCustom, SetBudgets, GetBudgets},
    {"min", KeyUse::kFloors, SetInteger<&S::min, 1>, GetOptional<&S::min>},
    {"warmup", KeyUse::kFloors, SetNumber<&S::warmup, 0, 1>,
     GetValue<&S::warmup>},
    {"heads", KeyUse::kCompress, SetName<&S::heads, kHeads>,
     GetName<&S::heads, kHeads>},
    {"floor", KeyUse::kFloor, SetNumber<&S::floor, 0, 1>, GetValue<&S::floor>},
    {"evict", KeyUse::kCompress, SetName<&S::evict, kEvicts>,
     GetName<&S::evict, kEvicts>},
    {"slack", KeyUse::kSlack, SetInteger<&S::slack, 1>, GetValue<&S::slack>},
    {"profile", KeyUse::kProfile, SetProfile, GetProfile},
    {"sliding_window", KeyUse::kAlways, SetInteger<&S::sliding_window, 0>,
     GetValue<&S::sliding_window>},
};

}  // namespace

std::span<const SpecKey> BudgetKeys() { return kKeys; }

Status CheckOneBudget(const CacheSpec& s) {
  if ((s.budget.keep && s.budget.tokens) ||
      (s.budget.keep && s.budget.memory) ||
      (s.budget.tokens && s.budget.memory)) {
    return Status::Usage(
        "two budgets are given; allowed: one of keep, tokens and memory");
  }
  return Status();
}

Status CheckEvict(const CacheSpec& s) {
  if (s.prefill == PrefillKind::kStreaming &&
      s.budget.evict == Evict::kDecode) {
    return Status::Usage(
        "prefill=streaming evicts after each chunk, so it does not go with "
        "evict=decode; allowed: evict=prefill or both");
  }
  if (s.budget.evict != Evict::kPrefill && s.budget.warmup > 0) {
    return Status::Usage(fmt::format(
        "warmup={} keeps whole layers, and evict={} bounds them; allowed: "
        "warmup=0, or evict=prefill",
        s.budget.warmup, FindSpecKey("evict")->get(s)));
  }
  return Status();
}

Status CheckHeads(const CacheSpec& s) {
  if (s.budget.heads == HeadSplit::kAdaptive &&
      s.score.select != SelectKind::kTopk) {
    return Status::Usage(
        "heads=adaptive goes by score; allowed: select=topk, or heads=equal");
  }
  if (s.budget.heads == HeadSplit::kProfile) {
    if (s.score.select != SelectKind::kRecent ||
        s.budget.schedule != ScheduleKind::kUniform) {
      return Status::Usage(
          "heads=profile keeps whole heads, or sinks and recent entries; "
          "allowed: select=recent and schedule=uniform");
    }
    if (s.budget.evict != Evict::kPrefill) {
      return Status::Usage(fmt::format(
          "evict={} does not go with heads=profile, whose whole heads keep "
          "generated entries, too; allowed: evict=prefill",
          FindSpecKey("evict")->get(s)));
    }
    if (s.budget.profile.empty()) {
      return Status::Usage(
          "heads=profile needs a profile of the model; allowed: profile=FILE "
          "(bench/head_profile.py writes one)");
    }
  }
  return Status();
}

Status CheckGlobal(const CacheSpec& s) {
  if (s.budget.heads != HeadSplit::kGlobal) return Status();
  if (s.budget.schedule != ScheduleKind::kUniform) {
    return Status::Usage(fmt::format(
        "heads=global spreads one budget over all layers and does not use "
        "schedule={}; allowed: schedule=uniform, or heads=equal",
        FindSpecKey("schedule")->get(s)));
  }
  if (s.score.select != SelectKind::kTopk || s.score.recent == kRecentHalf) {
    return Status::Usage(
        "heads=global goes by score alone; allowed: select=topk with an "
        "integer for recent, or heads=equal");
  }
  return Status();
}

Status CheckBudgetGiven(const CacheSpec& s) {
  if (s.budget.schedule == ScheduleKind::kCustom && s.budget.budgets.empty()) {
    return Status::Usage(
        "schedule=custom needs budgets; allowed: budgets=N:N:... with one "
        "integer for each layer");
  }
  const bool is_own_budget = s.budget.schedule == ScheduleKind::kLinear ||
                             s.budget.schedule == ScheduleKind::kPower ||
                             s.budget.schedule == ScheduleKind::kTable ||
                             s.budget.schedule == ScheduleKind::kCustom;
  if (!s.budget.given() && !is_own_budget) {
    return Status::Usage(fmt::format(
        "{} with schedule={} needs a budget; allowed: keep=SHARE (keep=0.3), "
        "tokens=N or memory=BYTES",
        s.policy, FindSpecKey("schedule")->get(s)));
  }
  return Status();
}

}  // namespace pyramidkv
