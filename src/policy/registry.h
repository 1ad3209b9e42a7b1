// The one table of presets: command line, server, docs and tests read it.

#ifndef PYRAMIDKV_POLICY_REGISTRY_H_
#define PYRAMIDKV_POLICY_REGISTRY_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/spec.h"

namespace pyramidkv {

struct Preset {
  std::string_view name;
  std::string_view summary;  // one line for help and docs
  std::string_view paper;    // "arXiv NNNN.NNNNN", or empty
  CacheSpec spec;            // its defaults
  // `window` given alone moves `recent` too: the method protects its window.
  bool recent_follows_window = false;
};

// Every preset in a mild and a hard setting, then combinations of methods: what
// tests and documents go through. profile: the file of those that need one.
std::vector<std::string> ExampleSpecs(std::string_view profile);

std::span<const Preset> Presets();
const Preset* FindPreset(std::string_view name);  // null if unknown

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_REGISTRY_H_
