#include "policy/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "policy/registry.h"
#include "policy/spec_checks.h"
#include "policy/spec_keys.h"
#include "policy/spec_values.h"
#include "pyramidkv/cache_spec.h"

namespace pyramidkv {
namespace {

struct Item {
  const SpecKey* key;
  std::string_view value;
};

// The keys of one spec, in the order of its text.
class Items {
 public:
  Status Add(std::string_view text);
  bool Has(std::string_view name) const;
  const std::vector<Item>& all() const { return items_; }

 private:
  std::vector<Item> items_;
};

bool Items::Has(std::string_view name) const {
  return std::any_of(items_.begin(), items_.end(),
                     [name](const Item& i) { return i.key->name == name; });
}

Status Items::Add(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Status::Usage(fmt::format(
        "\"{}\" is not key=value; a spec is POLICY[,key=value]...", text));
  }
  const std::string_view name = text.substr(0, equals);
  const SpecKey* key = FindSpecKey(name);
  if (key == nullptr) {
    std::vector<std::string_view> names;
    for (const SpecKey& k : SpecKeys()) names.push_back(k.name);
    return Status::Usage(fmt::format("unknown key \"{}\"{}; allowed: {}", name,
                                     DidYouMean(name, names),
                                     fmt::join(names, ", ")));
  }
  if (Has(name)) {
    return Status::Usage(fmt::format("{} is given twice", name));
  }
  const bool is_half = name == "type_k" || name == "type_v";
  if ((is_half && Has("type")) ||
      (name == "type" && (Has("type_k") || Has("type_v")))) {
    return Status::Usage(
        "type is given twice: it sets type_k and type_v; allowed: type alone, "
        "or type_k and type_v");
  }
  items_.push_back({key, text.substr(equals + 1)});
  return Status();
}

const Preset& PresetOf(const CacheSpec& spec) {
  const Preset* preset = FindPreset(spec.policy);
  return preset != nullptr ? *preset : Presets().front();
}

// `recent` where the text does not give it.
int DefaultRecent(const Preset& preset, const CacheSpec& spec) {
  // select=recent: all is recent anyway, but with a profile's two kinds.
  if (spec.budget.heads != HeadSplit::kProfile &&
      spec.score.select == SelectKind::kRecent) {
    return 0;
  }
  if (spec.score.select == preset.spec.score.select &&
      !preset.recent_follows_window) {
    return preset.spec.score.recent;
  }
  if (spec.score.select == SelectKind::kMixed) return kRecentHalf;
  const bool was_half = preset.spec.score.recent == kRecentHalf;
  if (preset.recent_follows_window || was_half) return spec.score.window;
  return preset.spec.score.recent;
}

// Fills in what depends on other keys and was not given.
void Derive(const Preset& preset, const Items& given, CacheSpec* spec) {
  if (!spec->compresses) return;
  // A preset's own budget gives way to another one.
  if (given.Has("keep") || given.Has("memory")) {
    if (!given.Has("tokens")) spec->budget.tokens.reset();
  }
  if (!given.Has("recent")) spec->score.recent = DefaultRecent(preset, *spec);
  // Heads of different lengths cannot keep one set.
  if (spec->budget.heads != HeadSplit::kEqual) spec->score.one_set = false;
  if (!WhyUnused(KeyUse::kFloors, *spec).empty()) {
    if (!given.Has("min")) spec->budget.min.reset();
    if (!given.Has("warmup")) spec->budget.warmup = 0;
  }
  if (spec->budget.schedule == ScheduleKind::kTable && !given.Has("table")) {
    spec->budget.table = StepsTable();
  }
}

Status CheckTogether(const CacheSpec& s) {
  PKV_RETURN_IF_ERROR(CheckTypes(s));
  if (!s.compresses) return CheckPositionsOfAll(s);
  for (const auto& check :
       {CheckOneBudget, CheckScorer, CheckEvict, CheckHeads, CheckRenumber,
        CheckRemainder, CheckTop, CheckGlobal, CheckPool, CheckBudgetGiven}) {
    PKV_RETURN_IF_ERROR(check(s));
  }
  return Status();
}

Result<const Preset*> FindPolicy(std::string_view name) {
  if (const Preset* preset = FindPreset(name)) return preset;
  std::vector<std::string_view> names;
  for (const Preset& p : Presets()) names.push_back(p.name);
  return Status::Usage(fmt::format("unknown policy \"{}\"{}; allowed: {}", name,
                                   DidYouMean(name, names),
                                   fmt::join(names, ", ")));
}

Result<CacheSpec> Parse(std::string_view text) {
  const std::vector<std::string_view> parts = Split(text, ',');
  PKV_ASSIGN_OR_RETURN(const Preset* preset, FindPolicy(parts[0]));
  Items items;
  for (size_t i = 1; i < parts.size(); ++i) {
    PKV_RETURN_IF_ERROR(items.Add(parts[i]));
  }
  CacheSpec spec = preset->spec;
  for (const Item& item : items.all()) {
    PKV_RETURN_IF_ERROR(item.key->set(item.key->name, item.value, &spec));
  }
  Derive(*preset, items, &spec);
  // Between keys first: "heads=global does not use schedule=linear" says more
  // than a complaint about `ratio`.
  PKV_RETURN_IF_ERROR(CheckTogether(spec));
  for (const Item& item : items.all()) {
    const std::string why = WhyUnused(item.key->use, spec);
    if (!why.empty()) {
      return Status::Usage(fmt::format("{}: {}", item.key->name, why));
    }
  }
  return spec;
}

// `type` stands for both halves where they are equal.
bool IsShadowed(std::string_view name, const CacheSpec& spec) {
  const bool same = spec.storage.type_k == spec.storage.type_v;
  if (name == "type") return !same;
  return same && (name == "type_k" || name == "type_v");
}

}  // namespace

Result<CacheSpec> ParseCacheSpec(std::string_view text) {
  const std::string tidy = TidyCacheSpec(text);
  Result<CacheSpec> spec = Parse(tidy);
  if (spec.ok()) return spec;
  return Status::Usage(
      fmt::format("cache spec \"{}\": {}", text, spec.status().message()));
}

std::string FormatCacheSpec(const CacheSpec& spec) {
  const Preset& preset = PresetOf(spec);
  // The other keys are derived from these, which differ only from the preset.
  CacheSpec derived = preset.spec;
  derived.budget.schedule = spec.budget.schedule;
  derived.budget.mode = spec.budget.mode;
  derived.score.select = spec.score.select;
  derived.budget.heads = spec.budget.heads;
  derived.score.window = spec.score.window;
  Derive(preset, Items(), &derived);

  std::string text = spec.policy;
  for (const SpecKey& key : SpecKeys()) {
    const std::string value = key.get(spec);
    const bool is_source = key.name == "schedule" || key.name == "mode" ||
                           key.name == "select" || key.name == "heads" ||
                           key.name == "window";
    const CacheSpec& base = is_source ? preset.spec : derived;
    if (value.empty() || value == key.get(base)) continue;
    if (IsShadowed(key.name, spec)) continue;
    text += fmt::format(",{}={}", key.name, value);
  }
  return text;
}

}  // namespace pyramidkv
