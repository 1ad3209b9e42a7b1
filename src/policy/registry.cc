#include "policy/registry.h"

#include <vector>

namespace pyramidkv {
namespace {

CacheSpec Compressing(std::string_view policy) {
  CacheSpec s;
  s.policy = std::string(policy);
  s.compresses = true;
  return s;
}

CacheSpec SnapKv(std::string_view policy) {
  CacheSpec s = Compressing(policy);
  s.window = 32;
  s.recent = s.window;
  s.kernel = 5;
  return s;
}

CacheSpec PyramidKv() {
  CacheSpec s = SnapKv("pyramidkv");
  s.schedule = ScheduleKind::kArithmetic;
  return s;
}

// A pool of 31 keeps the words behind a match together with it; without it
// the entries that an answer is copied from are scattered and lost.
CacheSpec SnapKvWide() {
  CacheSpec s = Compressing("snapkv-wide");
  s.heads = HeadSplit::kGlobal;
  s.floor = 0.2;
  s.sinks = 4;
  s.recent = 16;
  s.window = 16;
  s.kernel = 31;
  s.reduce = RowReduce::kMax;
  s.group = GroupReduce::kMax;
  return s;
}

CacheSpec Family(std::string_view policy, double ratio, int min) {
  CacheSpec s = Compressing(policy);
  s.schedule = ScheduleKind::kLinear;
  s.ratio = ratio;
  s.min = min;
  s.select = SelectKind::kMixed;
  s.sinks = 4;
  s.recent = kRecentHalf;
  s.window = 32;
  return s;
}

CacheSpec Llama() {
  CacheSpec s = Family("llama", 0.5, 64);
  s.warmup = 0.1;
  return s;
}

CacheSpec Mistral() {
  CacheSpec s = Family("mistral", 0.4, 128);
  s.sliding_window = 4096;
  return s;
}

std::vector<Preset> MakePresets() {
  return {
      {"full", "keeps every entry", "", CacheSpec{}},
      {"snapkv",
       "entries that the last 32 queries attend to, same budget in each layer",
       "arXiv 2404.14469", SnapKv("snapkv"), true},
      {"pyramidkv", "SnapKV's choice, budgets that fall with depth",
       "arXiv 2406.02069", PyramidKv(), true},
      {"snapkv-wide",
       "SnapKV with a wide pool, one budget for all layers and heads", "",
       SnapKvWide()},
      {"llama",
       "linear pyramid down to half, first tenth of the layers in full", "",
       Llama()},
      {"mistral", "linear pyramid down to 40 % inside a sliding window", "",
       Mistral()},
  };
}

}  // namespace

std::span<const Preset> Presets() {
  static const auto* const presets = new std::vector<Preset>(MakePresets());
  return *presets;
}

const Preset* FindPreset(std::string_view name) {
  for (const Preset& p : Presets()) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

}  // namespace pyramidkv
