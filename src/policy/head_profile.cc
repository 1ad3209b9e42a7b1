#include "policy/head_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"

namespace pyramidkv {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
// A profile has some thousand gates; this is no profile, and not worth memory.
constexpr size_t kMaxBytes = size_t{4} << 20;

// Errors of one file.
class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  Status Error(const std::string& what) const {
    return Status::Usage(fmt::format("{}: {}", name_, what));
  }

  Result<json> Parse(std::string_view text) const {
    try {
      return json::parse(text);
    } catch (const json::parse_error& error) {
      return Error(fmt::format("not JSON from byte {} on", error.byte));
    } catch (const json::exception&) {  // a number beyond double
      return Error("not JSON that can be read: a number is too large");
    }
  }

  Status CheckHead(const json& file, std::string* model) const {
    if (!file.is_object()) return Error("not an object with \"heads\"");
    const auto version = file.find("version");
    if (version == file.end() || *version != kVersion) {
      return Error(fmt::format(
          "\"version\" is {}; this build reads {}",
          version == file.end() ? "missing" : Shown(*version), kVersion));
    }
    const auto name = file.find("model");
    if (name == file.end()) return {};
    if (!name->is_string()) return Error("\"model\" is not a string");
    *model = name->get<std::string>();
    return {};
  }

  Status ReadGates(const json& file, HeadProfile* profile) const {
    const auto heads = file.find("heads");
    if (heads == file.end() || !heads->is_array()) {
      return Error("\"heads\" is not a list of layers");
    }
    if (static_cast<int64_t>(heads->size()) != profile->layers) {
      return Error(fmt::format("{} layers in \"heads\", the model has {}",
                               heads->size(), profile->layers));
    }
    for (size_t l = 0; l < heads->size(); ++l) {
      PKV_RETURN_IF_ERROR(ReadLayer((*heads)[l], l, profile));
    }
    return {};
  }

 private:
  // A value in an error, never more than a few words of it.
  static std::string Shown(const json& value) {
    if (value.is_structured()) return value.is_array() ? "a list" : "an object";
    // Bytes that are not UTF-8 are replaced, where the default throws.
    std::string text =
        value.dump(-1, ' ', false, json::error_handler_t::replace);
    constexpr size_t kMost = 40;
    return text.size() > kMost ? text.substr(0, kMost) + "..." : text;
  }

  Status ReadLayer(const json& layer, size_t l, HeadProfile* profile) const {
    if (!layer.is_array()) {
      return Error(fmt::format("layer {} of \"heads\" is not a list", l));
    }
    if (static_cast<int64_t>(layer.size()) != profile->kv_heads) {
      return Error(fmt::format("layer {} has {} gates, the model {} KV heads",
                               l, layer.size(), profile->kv_heads));
    }
    for (size_t h = 0; h < layer.size(); ++h) {
      const json& gate = layer[h];
      const double value = gate.is_number() ? gate.get<double>() : -1;
      if (!(value >= 0 && value <= 1)) {
        return Error(
            fmt::format("layer {}, head {}: gate {} is no number from 0 to 1",
                        l, h, Shown(gate)));
      }
      profile->gate.push_back(value);
    }
    return {};
  }

  const std::string& name_;
};

// Heads by gate, the highest first; of equal ones the lower layer and head.
std::vector<int> ByGate(const std::vector<double>& gate) {
  std::vector<int> order(gate.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return gate[a] > gate[b]; });
  return order;
}

}  // namespace

Result<HeadProfile> ParseHeadProfile(std::string_view text,
                                     const std::string& name, int layers,
                                     int kv_heads) {
  const Reader reader(name);
  HeadProfile profile;
  profile.layers = layers;
  profile.kv_heads = kv_heads;
  PKV_ASSIGN_OR_RETURN(const json file, reader.Parse(text));
  PKV_RETURN_IF_ERROR(reader.CheckHead(file, &profile.model));
  PKV_RETURN_IF_ERROR(reader.ReadGates(file, &profile));
  return profile;
}

Result<HeadProfile> LoadHeadProfile(const std::string& path, int layers,
                                    int kv_heads) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  // A whole file ends before the buffer does; a directory opens, but fails.
  if (file.bad() || !file.eof()) {
    return Status::Usage(
        file.good() ? fmt::format("{}: larger than a head profile", path)
                    : fmt::format("{}: cannot be read", path));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseHeadProfile(text, path, layers, kv_heads);
}

Result<std::vector<int>> HeadProfileBudgets(const HeadProfile& profile,
                                            int tokens, int64_t total,
                                            const HeadProfileOptions& options) {
  const int64_t heads = static_cast<int64_t>(profile.gate.size());
  DCHECK(heads == int64_t{profile.layers} * profile.kv_heads);
  const int64_t few = std::min<int64_t>(
      tokens, std::max<int64_t>(1, int64_t{options.sinks} + options.recent));
  if (total < heads * few) {
    return Status::DoesNotFit(fmt::format(
        "{} entries in all are too few: {} heads keep {} each at least, {} in "
        "all",
        total, heads, few, heads * few));
  }
  std::vector<int> budget(heads, static_cast<int>(few));
  int64_t left = std::min(total, heads * tokens) - heads * few;
  for (const int head : ByGate(profile.gate)) {
    if (left == 0) break;
    const int64_t more = std::min<int64_t>(left, tokens - few);
    budget[head] += static_cast<int>(more);
    left -= more;
  }
  return budget;
}

}  // namespace pyramidkv
