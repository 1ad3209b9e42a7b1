// The one table of the cache spec's keys: how each is read, printed, and when
// a spec uses it. Parsing, printing and messages walk it.

#ifndef PYRAMIDKV_POLICY_SPEC_KEYS_H_
#define PYRAMIDKV_POLICY_SPEC_KEYS_H_

#include <span>
#include <string>
#include <string_view>

#include "policy/spec.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// The condition under which a key has an effect.
enum class KeyUse {
  kAlways,
  kQuantized,   // type_k or type_v is quantised
  kCompress,    // the policy drops entries
  kFrom,        // no bound holds for every context
  kRatio,       // schedule=linear or power
  kExponent,    // schedule=power
  kArithmetic,  // schedule=arithmetic
  kTable,       // schedule=table
  kCustom,      // schedule=custom
  kFloors,      // schedules that apply `min` and `warmup`
  kFloor,       // heads=adaptive or global
  kProfile,     // heads=profile
  kRecent,      // every select but recent, which keeps recent entries anyway
  kRanks,       // entries are ranked
  kWindow,      // ranked by the attention of the last queries
  kGroup,       // ranked by attention, or by what each query head expects
  kSums,        // ranked by the attention of all queries
  kSlack,       // evict=decode or both
  kCluster,     // remainder=cluster
  kOffload,     // remainder=offload
  kSkew,        // index=skew
  kVictim,      // resident below 1
  kTop,         // entries are ranked, and quantised
  kTopShare,    // top_type is given
};

struct SpecKey {
  std::string_view name;
  KeyUse use;
  Status (*set)(std::string_view key, std::string_view value, CacheSpec* spec);
  // Empty where the spec holds no value, and for keys with one legal value.
  std::string (*get)(const CacheSpec& spec);
};

// Those of the spec's groups, each in its own file (policy/budget_spec.cc ...).
std::span<const SpecKey> BudgetKeys();
std::span<const SpecKey> ScoreKeys();
std::span<const SpecKey> StorageKeys();
std::span<const SpecKey> TierKeys();

std::span<const SpecKey> SpecKeys();  // all, in the order of canonical specs

const SpecKey* FindSpecKey(std::string_view name);  // null if unknown

// Why the spec makes no use of such a key; empty if it does.
std::string WhyUnused(KeyUse use, const CacheSpec& spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_SPEC_KEYS_H_
