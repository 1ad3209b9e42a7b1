#include "policy/storage_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>

#include "policy/spec_checks.h"
#include "policy/spec_keys.h"
#include "policy/spec_setters.h"

namespace pyramidkv {
namespace {

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
constexpr Name<Positions> kPositionKinds[] = {
    {"original", Positions::kOriginal}, {"renumber", Positions::kRenumber}};

Status SetType(std::string_view key, std::string_view value, CacheSpec* spec) {
  PKV_RETURN_IF_ERROR(
      (SetName<&StorageSpec::type_k, kCodecs>(key, value, spec)));
  spec->storage.type_v = spec->storage.type_k;
  return Status();
}

using S = StorageSpec;
constexpr SpecKey kKeys[] = {
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
};

// Keys by channel: what lets single entries leave groups that share a scale
// does not go with them.
Status CheckChannel(const CacheSpec& s) {
  if (s.storage.scale != ScaleKind::kChannel) return Status();
  if (!IsQuantized(s.storage.type_k)) {
    return Status::Usage(fmt::format(
        "scale=channel is a form of quantised keys, not of type_k={}; allowed: "
        "type_k=int8 or int4",
        FindSpecKey("type_k")->get(s)));
  }
  if (CodecBits(s.storage.recent_type) <= CodecBits(s.storage.type_k)) {
    return Status::Usage(fmt::format(
        "scale=channel keeps the newest keys in recent_type until 32 share a "
        "scale, and recent_type={} is no finer than type_k={}; allowed: f16",
        FindSpecKey("recent_type")->get(s), FindSpecKey("type_k")->get(s)));
  }
  if (s.keeps_all()) return Status();
  std::string with, allowed;
  if (s.budget.evict != Evict::kPrefill) {
    with = fmt::format("evict={}", FindSpecKey("evict")->get(s));
    allowed = "evict=prefill";
  } else if (s.prefill == PrefillKind::kStreaming) {
    with = "prefill=streaming";
    allowed = "prefill=exact";
  } else if (s.tier.remainder == Remainder::kCluster) {
    with = "remainder=cluster";
    allowed = "remainder=drop";
  } else if (s.budget.heads == HeadSplit::kGlobal) {
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

}  // namespace

std::span<const SpecKey> StorageKeys() { return kKeys; }

Status CheckTypes(const CacheSpec& s) {
  if (s.storage.type_k == Codec::kInt2) {
    return Status::Usage(
        "type_k=int2: keys need 4 bits, values alone tolerate 2; allowed: "
        "type_k=int4 (type_k=int4,type_v=int2)");
  }
  return CheckChannel(s);
}

Status CheckPositionsOfAll(const CacheSpec& s) {
  if (s.storage.positions == Positions::kOriginal) return Status();
  return Status::Usage(fmt::format(
      "positions=renumber does not work with {}, which keeps every entry; "
      "allowed: positions=original",
      s.policy));
}

Status CheckRenumber(const CacheSpec& s) {
  if (s.storage.positions != Positions::kRenumber) return Status();
  if (s.budget.heads != HeadSplit::kEqual) {
    return Status::Usage(fmt::format(
        "positions=renumber does not work with heads={}, which gives heads "
        "of unequal lengths; allowed: heads=equal",
        FindSpecKey("heads")->get(s)));
  }
  if (s.storage.type_k != Codec::kF16 && s.storage.type_k != Codec::kF32) {
    return Status::Usage(fmt::format(
        "positions=renumber does not work with type_k={}: rotating such "
        "keys again loses too much; allowed: f16 or f32",
        FindSpecKey("type_k")->get(s)));
  }
  return Status();
}

Status CheckTop(const CacheSpec& s) {
  if (!s.storage.ranks_top() || !WhyUnused(KeyUse::kTop, s).empty())
    return Status();
  const std::string type = FindSpecKey("top_type")->get(s);
  if (CodecBits(*s.storage.top_type) <=
      std::min(CodecBits(s.storage.type_k), CodecBits(s.storage.type_v))) {
    return Status::Usage(fmt::format(
        "top_type={} is no finer than type_k={} and type_v={}; allowed: f16 or "
        "int8 beside coarser types",
        type, FindSpecKey("type_k")->get(s), FindSpecKey("type_v")->get(s)));
  }
  return Status();
}

}  // namespace pyramidkv
