#include "policy/spec_keys.h"

#include <iterator>
#include <vector>

#include "policy/spec_setters.h"

namespace pyramidkv {
namespace {

constexpr Name<PrefillKind> kPrefills[] = {
    {"exact", PrefillKind::kExact},
    {"streaming", PrefillKind::kStreaming},
    {"sparse", PrefillKind::kSparse}};

constexpr SpecKey kPrefillKey[] = {{"prefill", KeyUse::kAlways,
                                    SetName<&CacheSpec::prefill, kPrefills>,
                                    GetName<&CacheSpec::prefill, kPrefills>}};

// The order of canonical specs. Keys of several groups take turns, as they came
// to be.
constexpr std::string_view kOrder[] = {
    "keep",     "tokens",   "memory",    "from",     "schedule",
    "ratio",    "exponent", "beta",      "mode",     "table",
    "budgets",  "min",      "warmup",    "sinks",    "recent",
    "window",   "kernel",   "pool",      "reduce",   "select",
    "heads",    "floor",    "group",     "vnorm",    "evict",
    "slack",    "prefill",  "remainder", "clusters", "merge",
    "index",    "partial",  "alpha",     "fetch",    "resident",
    "victim",   "spread",   "decay",     "grace",    "variant",
    "type",     "type_k",   "type_v",    "scale",    "recent_type",
    "top_type", "top",      "positions", "profile",  "sliding_window"};

std::vector<SpecKey> InOrder() {
  std::vector<SpecKey> keys;
  for (std::string_view name : kOrder) {
    for (std::span<const SpecKey> group :
         {std::span<const SpecKey>(kPrefillKey), BudgetKeys(), ScoreKeys(),
          StorageKeys(), TierKeys()}) {
      for (const SpecKey& key : group) {
        if (key.name == name) keys.push_back(key);
      }
    }
  }
  return keys;
}

}  // namespace

std::span<const SpecKey> SpecKeys() {
  static const auto* const keys = new std::vector<SpecKey>(InOrder());
  return *keys;
}

const SpecKey* FindSpecKey(std::string_view name) {
  for (const SpecKey& key : SpecKeys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

}  // namespace pyramidkv
