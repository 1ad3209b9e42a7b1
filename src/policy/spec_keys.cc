#include "policy/spec_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <vector>

#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr int kMaxInt = 1 << 30;  // leaves room for sums of a few of them
constexpr int kMaxKernel = 1023;
constexpr int kMaxClusters = 1 << 20;

template <typename E>
struct Name {
  std::string_view name;
  E value;
};

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
constexpr Name<SelectKind> kSelects[] = {{"mixed", SelectKind::kMixed},
                                         {"topk", SelectKind::kTopk},
                                         {"recent", SelectKind::kRecent}};
constexpr Name<HeadSplit> kHeads[] = {{"equal", HeadSplit::kEqual},
                                      {"adaptive", HeadSplit::kAdaptive},
                                      {"global", HeadSplit::kGlobal},
                                      {"profile", HeadSplit::kProfile}};
constexpr Name<PoolKind> kPools[] = {{"avg", PoolKind::kAvg},
                                     {"max", PoolKind::kMax},
                                     {"chunk", PoolKind::kChunk}};
constexpr Name<RowReduce> kReduces[] = {{"mean", RowReduce::kMean},
                                        {"max", RowReduce::kMax}};
constexpr Name<GroupReduce> kGroups[] = {{"mean", GroupReduce::kMean},
                                         {"max", GroupReduce::kMax},
                                         {"sum", GroupReduce::kSum}};
constexpr Name<ValueNorm> kValueNorms[] = {
    {"off", ValueNorm::kOff}, {"v", ValueNorm::kV}, {"wo", ValueNorm::kWo}};
constexpr Name<Evict> kEvicts[] = {{"prefill", Evict::kPrefill},
                                   {"decode", Evict::kDecode},
                                   {"both", Evict::kBoth}};
constexpr Name<PrefillKind> kPrefills[] = {
    {"exact", PrefillKind::kExact},
    {"streaming", PrefillKind::kStreaming},
    {"sparse", PrefillKind::kSparse}};
constexpr Name<Remainder> kRemainders[] = {{"drop", Remainder::kDrop},
                                           {"cluster", Remainder::kCluster},
                                           {"offload", Remainder::kOffload}};
constexpr Name<IndexKind> kIndexes[] = {{"sign", IndexKind::kSign},
                                        {"skew", IndexKind::kSkew},
                                        {"quest", IndexKind::kQuest},
                                        {"cluster", IndexKind::kCluster}};
constexpr Name<Victim> kVictims[] = {{"fifo", Victim::kFifo},
                                     {"lru", Victim::kLru},
                                     {"counter", Victim::kCounter}};
constexpr Name<MergeRule> kMerges[] = {{"mean", MergeRule::kMean},
                                       {"attention", MergeRule::kAttention},
                                       {"cosine", MergeRule::kCosine}};
constexpr Name<Positions> kPositionKinds[] = {
    {"original", Positions::kOriginal}, {"renumber", Positions::kRenumber}};
constexpr Name<SumVariant> kVariants[] = {{"sum", SumVariant::kSum},
                                          {"observed", SumVariant::kObserved}};
constexpr Name<ScaleKind> kScales[] = {{"token", ScaleKind::kToken},
                                       {"tensor", ScaleKind::kTensor},
                                       {"channel", ScaleKind::kChannel}};
constexpr auto kCodecs = [] {
  std::array<Name<Codec>, std::size(kCodecTraits)> names = {};
  for (size_t i = 0; i < names.size(); ++i) {
    names[i] = {kCodecTraits[i].name, kCodecTraits[i].codec};
  }
  return names;
}();

template <auto kMember, const auto& kNames>
Status SetName(std::string_view key, std::string_view value, CacheSpec* spec) {
  std::vector<std::string_view> allowed;
  for (const auto& n : kNames) {
    if (n.name == value) {
      spec->*kMember = n.value;
      return Status();
    }
    allowed.push_back(n.name);
  }
  return BadValue(key, value, fmt::format("{}", fmt::join(allowed, ", ")));
}

template <auto kMember, const auto& kNames>
std::string GetName(const CacheSpec& spec) {
  for (const auto& n : kNames) {
    if (n.value == spec.*kMember) return std::string(n.name);
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
  spec->*kMember = static_cast<int>(*number);
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
  spec->*kMember = *number;
  return Status();
}

template <auto kMember>
std::string GetValue(const CacheSpec& spec) {
  return fmt::format("{}", spec.*kMember);
}

template <auto kMember>
std::string GetOptional(const CacheSpec& spec) {
  return spec.*kMember ? fmt::format("{}", *(spec.*kMember)) : "";
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
  spec->*kMember = *number;
  return Status();
}

Status SetMemory(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  const auto bytes = ParseBytes(value);
  if (!bytes || *bytes < 1) {
    return BadValue(key, value,
                    "bytes above 0, or a number with KiB, MiB or GiB");
  }
  spec->memory = bytes;
  return Status();
}

std::string GetMemory(const CacheSpec& spec) {
  return spec.memory ? FormatBytes(*spec.memory) : "";
}

Status SetTable(std::string_view key, std::string_view value, CacheSpec* spec) {
  auto table = ParseTable(value);
  if (!table) {
    return BadValue(key, value,
                    "steps, or DEPTH:SHARE/DEPTH:SHARE/... with rising depths "
                    "and shares from 0 to 1 (0:1/0.5:0.6/1:0.15)");
  }
  spec->table = *std::move(table);
  return Status();
}

std::string GetTable(const CacheSpec& s) { return FormatTable(s.table); }

Status SetBudgets(std::string_view key, std::string_view value,
                  CacheSpec* spec) {
  auto budgets = ParseBudgets(value);
  if (!budgets) {
    return BadValue(key, value,
                    "one integer above 0 for each layer, separated by ':' "
                    "(512:400:300)");
  }
  spec->budgets = *std::move(budgets);
  return Status();
}

std::string GetBudgets(const CacheSpec& s) { return FormatBudgets(s.budgets); }

Status SetRecent(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  if (value == "half") {
    spec->recent = kRecentHalf;
    return Status();
  }
  if (SetInteger<&CacheSpec::recent, 0>(key, value, spec).ok()) {
    return Status();
  }
  return BadValue(key, value,
                  fmt::format("half, or an integer from 0 to {}", kMaxInt));
}

std::string GetRecent(const CacheSpec& s) {
  return s.recent == kRecentHalf ? "half" : fmt::format("{}", s.recent);
}

// Chunks (pool=chunk) may have any length: CheckTogether refuses the rest.
Status SetKernel(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  const auto number = ParseInteger(value);
  if (!number || *number < 1 || *number > kMaxKernel) {
    return BadValue(key, value,
                    fmt::format("an odd integer from 1 to {}", kMaxKernel));
  }
  spec->kernel = static_cast<int>(*number);
  return Status();
}

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
  spec->clusters = *number;
  return Status();
}

Status SetProfile(std::string_view key, std::string_view value,
                  CacheSpec* spec) {
  if (value.empty()) return BadValue(key, value, "the path of a profile");
  spec->profile = std::string(value);
  return Status();
}

std::string GetProfile(const CacheSpec& s) { return s.profile; }

Status SetType(std::string_view key, std::string_view value, CacheSpec* spec) {
  PKV_RETURN_IF_ERROR((SetName<&CacheSpec::type_k, kCodecs>(key, value, spec)));
  spec->type_v = spec->type_k;
  return Status();
}

using S = CacheSpec;
constexpr SpecKey kKeys[] = {
    {"keep", KeyUse::kCompress, SetPositive<&S::keep, 1>,
     GetOptional<&S::keep>},
    {"tokens", KeyUse::kCompress, SetInteger<&S::tokens, 1>,
     GetOptional<&S::tokens>},
    {"memory", KeyUse::kCompress, SetMemory, GetMemory},
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
    {"sinks", KeyUse::kCompress, SetInteger<&S::sinks, 0>, GetValue<&S::sinks>},
    {"recent", KeyUse::kRecent, SetRecent, GetRecent},
    {"window", KeyUse::kWindow, SetInteger<&S::window, 1, 8192>,
     GetValue<&S::window>},
    {"kernel", KeyUse::kRanks, SetKernel, GetValue<&S::kernel>},
    {"pool", KeyUse::kRanks, SetName<&S::pool, kPools>,
     GetName<&S::pool, kPools>},
    {"reduce", KeyUse::kWindow, SetName<&S::reduce, kReduces>,
     GetName<&S::reduce, kReduces>},
    {"select", KeyUse::kCompress, SetName<&S::select, kSelects>,
     GetName<&S::select, kSelects>},
    {"heads", KeyUse::kCompress, SetName<&S::heads, kHeads>,
     GetName<&S::heads, kHeads>},
    {"floor", KeyUse::kFloor, SetNumber<&S::floor, 0, 1>, GetValue<&S::floor>},
    {"group", KeyUse::kGroup, SetName<&S::group, kGroups>,
     GetName<&S::group, kGroups>},
    {"vnorm", KeyUse::kRanks, SetName<&S::vnorm, kValueNorms>,
     GetName<&S::vnorm, kValueNorms>},
    {"evict", KeyUse::kCompress, SetName<&S::evict, kEvicts>,
     GetName<&S::evict, kEvicts>},
    {"slack", KeyUse::kSlack, SetInteger<&S::slack, 1>, GetValue<&S::slack>},
    {"prefill", KeyUse::kAlways, SetName<&S::prefill, kPrefills>,
     GetName<&S::prefill, kPrefills>},
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
    {"spread", KeyUse::kRanks, SetInteger<&S::spread, 0, 1024>,
     GetValue<&S::spread>},
    {"decay", KeyUse::kSums, SetPositive<&S::decay, 1>, GetValue<&S::decay>},
    {"grace", KeyUse::kSums, SetInteger<&S::grace, 0>, GetValue<&S::grace>},
    {"variant", KeyUse::kSums, SetName<&S::variant, kVariants>,
     GetName<&S::variant, kVariants>},
    {"type", KeyUse::kAlways, SetType, GetName<&S::type_k, kCodecs>},
    {"type_k", KeyUse::kAlways, SetName<&S::type_k, kCodecs>,
     GetName<&S::type_k, kCodecs>},
    {"type_v", KeyUse::kAlways, SetName<&S::type_v, kCodecs>,
     GetName<&S::type_v, kCodecs>},
    {"scale", KeyUse::kQuantized, SetName<&S::scale, kScales>,
     GetName<&S::scale, kScales>},
    {"recent_type", KeyUse::kQuantized, SetName<&S::recent_type, kCodecs>,
     GetName<&S::recent_type, kCodecs>},
    {"top_type", KeyUse::kTop, SetName<&S::top_type, kCodecs>,
     GetName<&S::top_type, kCodecs>},
    {"top", KeyUse::kTopShare, SetPositive<&S::top, 1>, GetValue<&S::top>},
    {"positions", KeyUse::kAlways, SetName<&S::positions, kPositionKinds>,
     GetName<&S::positions, kPositionKinds>},
    {"profile", KeyUse::kProfile, SetProfile, GetProfile},
    {"sliding_window", KeyUse::kAlways, SetInteger<&S::sliding_window, 0>,
     GetValue<&S::sliding_window>},
};

}  // namespace

std::string_view IndexName(IndexKind kind) {
  return std::find_if(std::begin(kIndexes), std::end(kIndexes),
                      [&](const auto& n) { return n.value == kind; })
      ->name;
}

std::span<const SpecKey> SpecKeys() { return kKeys; }

const SpecKey* FindSpecKey(std::string_view name) {
  for (const SpecKey& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

}  // namespace pyramidkv
