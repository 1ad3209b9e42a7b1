#include "policy/score_spec.h"

#include <fmt/format.h>

#include <string>

#include "policy/scorer.h"
#include "policy/spec_checks.h"
#include "policy/spec_keys.h"
#include "policy/spec_setters.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

constexpr int kMaxKernel = 1023;

constexpr Name<SelectKind> kSelects[] = {{"mixed", SelectKind::kMixed},
                                         {"topk", SelectKind::kTopk},
                                         {"recent", SelectKind::kRecent}};
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
constexpr Name<SumVariant> kVariants[] = {{"sum", SumVariant::kSum},
                                          {"observed", SumVariant::kObserved}};

Status SetRecent(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  if (value == "half") {
    spec->score.recent = kRecentHalf;
    return Status();
  }
  if (SetInteger<&ScoreSpec::recent, 0>(key, value, spec).ok()) {
    return Status();
  }
  return BadValue(key, value,
                  fmt::format("half, or an integer from 0 to {}", kMaxInt));
}

std::string GetRecent(const CacheSpec& s) {
  return s.score.recent == kRecentHalf ? "half"
                                       : fmt::format("{}", s.score.recent);
}

// Chunks (pool=chunk) may have any length: CheckPool refuses the rest.
Status SetKernel(std::string_view key, std::string_view value,
                 CacheSpec* spec) {
  const auto number = ParseInteger(value);
  if (!number || *number < 1 || *number > kMaxKernel) {
    return BadValue(key, value,
                    fmt::format("an odd integer from 1 to {}", kMaxKernel));
  }
  spec->score.kernel = static_cast<int>(*number);
  return Status();
}

using S = ScoreSpec;
constexpr SpecKey kKeys[] = {
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
    {"group", KeyUse::kGroup, SetName<&S::group, kGroups>,
     GetName<&S::group, kGroups>},
    {"vnorm", KeyUse::kRanks, SetName<&S::vnorm, kValueNorms>,
     GetName<&S::vnorm, kValueNorms>},
    {"spread", KeyUse::kRanks, SetInteger<&S::spread, 0, 1024>,
     GetValue<&S::spread>},
    {"decay", KeyUse::kSums, SetPositive<&S::decay, 1>, GetValue<&S::decay>},
    {"grace", KeyUse::kSums, SetInteger<&S::grace, 0>, GetValue<&S::grace>},
    {"variant", KeyUse::kSums, SetName<&S::variant, kVariants>,
     GetName<&S::variant, kVariants>},
};

}  // namespace

std::span<const SpecKey> ScoreKeys() { return kKeys; }

Status CheckScorer(const CacheSpec& s) {
  if (s.score.scorer == nullptr) {
    if (s.score.select == SelectKind::kRecent) return Status();
    return Status::Usage(fmt::format(
        "{} ranks no entries, so select={} has nothing to go by; allowed: "
        "select=recent",
        s.policy, FindSpecKey("select")->get(s)));
  }
  const ScorerTraits traits = s.score.scorer->traits();
  if (traits.gathers && traits.decodes && s.score.group != GroupReduce::kMean &&
      s.budget.evict != Evict::kPrefill) {
    return Status::Usage(fmt::format(
        "group={} does not go with evict={}: generated tokens add the mean "
        "over the group; allowed: group=mean, or evict=prefill",
        FindSpecKey("group")->get(s), FindSpecKey("evict")->get(s)));
  }
  if (!traits.decodes && s.budget.evict != Evict::kPrefill) {
    return Status::Usage(fmt::format(
        "evict={} does not work with {}, whose scores come from the rows of "
        "the prompt; allowed: evict=prefill",
        FindSpecKey("evict")->get(s), s.policy));
  }
  if (!traits.streams && s.prefill == PrefillKind::kStreaming) {
    return Status::Usage(fmt::format(
        "prefill=streaming does not work with {}, which repeats the whole "
        "context; allowed: prefill=exact",
        s.policy));
  }
  if (!traits.sparse && s.prefill == PrefillKind::kSparse) {
    return Status::Usage(fmt::format(
        "prefill=sparse does not work with {}, which needs the attention of "
        "all rows to all entries; allowed: prefill=exact",
        s.policy));
  }
  return Status();
}

Status CheckPool(const CacheSpec& s) {
  if (s.score.pool != PoolKind::kChunk && s.score.kernel % 2 == 0) {
    return Status::Usage(fmt::format(
        "kernel={}: a pool has a middle; allowed: an odd integer, or any with "
        "pool=chunk",
        s.score.kernel));
  }
  if (s.score.select == SelectKind::kMixed && s.score.recent != kRecentHalf) {
    return Status::Usage(fmt::format(
        "recent={} does not go with select=mixed, which keeps the newest half; "
        "allowed: recent=half, or select=topk",
        s.score.recent));
  }
  return Status();
}

}  // namespace pyramidkv
