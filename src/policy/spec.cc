#include "policy/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "policy/registry.h"
#include "policy/spec_keys.h"
#include "policy/spec_values.h"

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
  if (spec.heads != HeadSplit::kProfile && spec.select == SelectKind::kRecent) {
    return 0;
  }
  if (spec.select == preset.spec.select && !preset.recent_follows_window) {
    return preset.spec.recent;
  }
  if (spec.select == SelectKind::kMixed) return kRecentHalf;
  const bool was_half = preset.spec.recent == kRecentHalf;
  if (preset.recent_follows_window || was_half) return spec.window;
  return preset.spec.recent;
}

// Fills in what depends on other keys and was not given.
void Derive(const Preset& preset, const Items& given, CacheSpec* spec) {
  if (!spec->compresses) return;
  // A preset's own budget gives way to another one.
  if (given.Has("keep") || given.Has("memory")) {
    if (!given.Has("tokens")) spec->tokens.reset();
  }
  if (!given.Has("recent")) spec->recent = DefaultRecent(preset, *spec);
  // Heads of different lengths cannot keep one set.
  if (spec->heads != HeadSplit::kEqual) spec->one_set = false;
  if (!WhyUnused(KeyUse::kFloors, *spec).empty()) {
    if (!given.Has("min")) spec->min.reset();
    if (!given.Has("warmup")) spec->warmup = 0;
  }
  if (spec->schedule == ScheduleKind::kTable && !given.Has("table")) {
    spec->table = StepsTable();
  }
}

Status CheckScorer(const CacheSpec& s) {
  if (s.scorer == Scorer::kNone && s.select != SelectKind::kRecent) {
    return Status::Usage(fmt::format(
        "{} ranks no entries, so select={} has nothing to go by; allowed: "
        "select=recent",
        s.policy, FindSpecKey("select")->get(s)));
  }
  if (s.scorer == Scorer::kColumnSums && s.group != GroupReduce::kMean &&
      s.evict != Evict::kPrefill) {
    return Status::Usage(fmt::format(
        "group={} does not go with evict={}: generated tokens add the mean "
        "over the group; allowed: group=mean, or evict=prefill",
        FindSpecKey("group")->get(s), FindSpecKey("evict")->get(s)));
  }
  const bool of_prompt =
      s.scorer == Scorer::kReconstruction || s.scorer == Scorer::kFarAttention;
  if (of_prompt && s.evict != Evict::kPrefill) {
    return Status::Usage(fmt::format(
        "evict={} does not work with {}, whose scores come from the rows of "
        "the prompt; allowed: evict=prefill",
        FindSpecKey("evict")->get(s), s.policy));
  }
  if (s.prefill == PrefillKind::kStreaming &&
      s.scorer == Scorer::kReconstruction) {
    return Status::Usage(fmt::format(
        "prefill=streaming does not work with {}, which repeats the whole "
        "context; allowed: prefill=exact",
        s.policy));
  }
  if (s.prefill == PrefillKind::kSparse &&
      (of_prompt || s.scorer == Scorer::kColumnSums)) {
    return Status::Usage(fmt::format(
        "prefill=sparse does not work with {}, which needs the attention of "
        "all rows to all entries; allowed: prefill=exact",
        s.policy));
  }
  return Status();
}

Status CheckRemainder(const CacheSpec& s) {
  if (s.remainder == Remainder::kCluster) {
    const std::string why = WhyUnused(KeyUse::kRanks, s);
    if (!why.empty()) {
      return Status::Usage(fmt::format("remainder=cluster: {}", why));
    }
    if (s.heads == HeadSplit::kGlobal) {
      return Status::Usage(
          "remainder=cluster does not work with heads=global, which drops "
          "entries before all are known; allowed: heads=equal or adaptive");
    }
  }
  if (s.remainder != Remainder::kOffload) return Status();
  if (s.positions == Positions::kRenumber) {
    return Status::Usage(
        "remainder=offload does not work with positions=renumber, which would "
        "have to rotate what lies in the cold tier; allowed: "
        "positions=original");
  }
  if (s.memory) {
    return Status::Usage(
        "memory bounds the whole cache, and remainder=offload keeps all of it; "
        "allowed: keep or tokens, and resident=SHARE for the cold tier");
  }
  if (s.sliding_window > 0) {
    return Status::Usage(fmt::format(
        "remainder=offload does not go with sliding_window={}, behind which "
        "nothing is seen any more; allowed: sliding_window=0, or "
        "remainder=drop",
        s.sliding_window));
  }
  return Status();
}

// What `evict` and `prefill` do not go with.
Status CheckEvict(const CacheSpec& s) {
  if (s.prefill == PrefillKind::kStreaming && s.evict == Evict::kDecode) {
    return Status::Usage(
        "prefill=streaming evicts after each chunk, so it does not go with "
        "evict=decode; allowed: evict=prefill or both");
  }
  if (s.evict != Evict::kPrefill && s.warmup > 0) {
    return Status::Usage(fmt::format(
        "warmup={} keeps whole layers, and evict={} bounds them; allowed: "
        "warmup=0, or evict=prefill",
        s.warmup, FindSpecKey("evict")->get(s)));
  }
  return Status();
}

Status CheckHeads(const CacheSpec& s) {
  const std::string heads = FindSpecKey("heads")->get(s);
  if (s.heads == HeadSplit::kAdaptive && s.select != SelectKind::kTopk) {
    return Status::Usage(
        "heads=adaptive goes by score; allowed: select=topk, or heads=equal");
  }
  if (s.heads == HeadSplit::kProfile) {
    if (s.select != SelectKind::kRecent ||
        s.schedule != ScheduleKind::kUniform) {
      return Status::Usage(
          "heads=profile keeps whole heads, or sinks and recent entries; "
          "allowed: select=recent and schedule=uniform");
    }
    if (s.evict != Evict::kPrefill) {
      return Status::Usage(fmt::format(
          "evict={} does not go with heads=profile, whose whole heads keep "
          "generated entries, too; allowed: evict=prefill",
          FindSpecKey("evict")->get(s)));
    }
    if (s.profile.empty()) {
      return Status::Usage(
          "heads=profile needs a profile of the model; allowed: profile=FILE "
          "(bench/head_profile.py writes one)");
    }
  }
  if (s.positions == Positions::kRenumber) {
    if (s.heads != HeadSplit::kEqual) {
      return Status::Usage(fmt::format(
          "positions=renumber does not work with heads={}, which gives heads "
          "of unequal lengths; allowed: heads=equal",
          heads));
    }
    if (s.type_k != Codec::kF16 && s.type_k != Codec::kF32) {
      return Status::Usage(fmt::format(
          "positions=renumber does not work with type_k={}: rotating such "
          "keys again loses too much; allowed: f16 or f32",
          FindSpecKey("type_k")->get(s)));
    }
  }
  return Status();
}

// Keys by channel: what lets single entries leave groups that share a scale
// does not go with them.
Status CheckChannel(const CacheSpec& s) {
  if (s.scale != ScaleKind::kChannel) return Status();
  if (!IsQuantized(s.type_k)) {
    return Status::Usage(fmt::format(
        "scale=channel is a form of quantised keys, not of type_k={}; allowed: "
        "type_k=int8 or int4",
        FindSpecKey("type_k")->get(s)));
  }
  if (CodecBits(s.recent_type) <= CodecBits(s.type_k)) {
    return Status::Usage(fmt::format(
        "scale=channel keeps the newest keys in recent_type until 32 share a "
        "scale, and recent_type={} is no finer than type_k={}; allowed: f16",
        FindSpecKey("recent_type")->get(s), FindSpecKey("type_k")->get(s)));
  }
  if (s.keeps_all()) return Status();
  std::string with, allowed;
  if (s.evict != Evict::kPrefill) {
    with = fmt::format("evict={}", FindSpecKey("evict")->get(s));
    allowed = "evict=prefill";
  } else if (s.prefill == PrefillKind::kStreaming) {
    with = "prefill=streaming";
    allowed = "prefill=exact";
  } else if (s.remainder == Remainder::kCluster) {
    with = "remainder=cluster";
    allowed = "remainder=drop";
  } else if (s.heads == HeadSplit::kGlobal) {
    with = "heads=global";
    allowed = "heads=equal or adaptive";
  } else {
    return Status();
  }
  return Status::Usage(fmt::format(
      "scale=channel does not go with {}, which takes single entries out of "
      "groups that share a scale; allowed: {}, or scale=token",
      with, allowed));
}

// The best entries, finer.
Status CheckTop(const CacheSpec& s) {
  if (!s.ranks_top() || !WhyUnused(KeyUse::kTop, s).empty()) return Status();
  const std::string type = FindSpecKey("top_type")->get(s);
  if (CodecBits(*s.top_type) <=
      std::min(CodecBits(s.type_k), CodecBits(s.type_v))) {
    return Status::Usage(fmt::format(
        "top_type={} is no finer than type_k={} and type_v={}; allowed: f16 or "
        "int8 beside coarser types",
        type, FindSpecKey("type_k")->get(s), FindSpecKey("type_v")->get(s)));
  }
  return Status();
}

// The rules between keys that no single key can see.
Status CheckTogether(const CacheSpec& s) {
  if (s.type_k == Codec::kInt2) {
    return Status::Usage(
        "type_k=int2: keys need 4 bits, values alone tolerate 2; allowed: "
        "type_k=int4 (type_k=int4,type_v=int2)");
  }
  PKV_RETURN_IF_ERROR(CheckChannel(s));
  if (!s.compresses) {
    if (s.positions == Positions::kOriginal) return Status();
    return Status::Usage(fmt::format(
        "positions=renumber does not work with {}, which keeps every entry; "
        "allowed: positions=original",
        s.policy));
  }
  if ((s.keep && s.tokens) || (s.keep && s.memory) || (s.tokens && s.memory)) {
    return Status::Usage(
        "two budgets are given; allowed: one of keep, tokens and memory");
  }
  PKV_RETURN_IF_ERROR(CheckScorer(s));
  PKV_RETURN_IF_ERROR(CheckEvict(s));
  PKV_RETURN_IF_ERROR(CheckHeads(s));
  PKV_RETURN_IF_ERROR(CheckRemainder(s));
  PKV_RETURN_IF_ERROR(CheckTop(s));
  if (s.heads == HeadSplit::kGlobal) {
    if (s.schedule != ScheduleKind::kUniform) {
      return Status::Usage(fmt::format(
          "heads=global spreads one budget over all layers and does not use "
          "schedule={}; allowed: schedule=uniform, or heads=equal",
          FindSpecKey("schedule")->get(s)));
    }
    if (s.select != SelectKind::kTopk || s.recent == kRecentHalf) {
      return Status::Usage(
          "heads=global goes by score alone; allowed: select=topk with an "
          "integer for recent, or heads=equal");
    }
  }
  if (s.pool != PoolKind::kChunk && s.kernel % 2 == 0) {
    return Status::Usage(fmt::format(
        "kernel={}: a pool has a middle; allowed: an odd integer, or any with "
        "pool=chunk",
        s.kernel));
  }
  if (s.select == SelectKind::kMixed && s.recent != kRecentHalf) {
    return Status::Usage(fmt::format(
        "recent={} does not go with select=mixed, which keeps the newest half; "
        "allowed: recent=half, or select=topk",
        s.recent));
  }
  if (s.schedule == ScheduleKind::kCustom && s.budgets.empty()) {
    return Status::Usage(
        "schedule=custom needs budgets; allowed: budgets=N:N:... with one "
        "integer for each layer");
  }
  const bool is_own_budget = s.schedule == ScheduleKind::kLinear ||
                             s.schedule == ScheduleKind::kPower ||
                             s.schedule == ScheduleKind::kTable ||
                             s.schedule == ScheduleKind::kCustom;
  if (!s.has_budget() && !is_own_budget) {
    return Status::Usage(fmt::format(
        "{} with schedule={} needs a budget; allowed: keep=SHARE (keep=0.3), "
        "tokens=N or memory=BYTES",
        s.policy, FindSpecKey("schedule")->get(s)));
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
  const bool same = spec.type_k == spec.type_v;
  if (name == "type") return !same;
  return same && (name == "type_k" || name == "type_v");
}

}  // namespace

Result<CacheSpec> ParseCacheSpec(std::string_view text) {
  Result<CacheSpec> spec = Parse(text);
  if (spec.ok()) return spec;
  return Status::Usage(
      fmt::format("cache spec \"{}\": {}", text, spec.status().message()));
}

std::string FormatCacheSpec(const CacheSpec& spec) {
  const Preset& preset = PresetOf(spec);
  // What the other keys are derived from; these differ only from the preset.
  CacheSpec derived = preset.spec;
  derived.schedule = spec.schedule;
  derived.mode = spec.mode;
  derived.select = spec.select;
  derived.heads = spec.heads;
  derived.window = spec.window;
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
