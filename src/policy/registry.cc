#include "policy/registry.h"

#include <vector>

#include "policy/scorers/column_sums.h"
#include "policy/scorers/expected_attention.h"
#include "policy/scorers/far_attention.h"
#include "policy/scorers/key_diff.h"
#include "policy/scorers/key_norm.h"
#include "policy/scorers/kvzip.h"
#include "policy/scorers/r_kv.h"
#include "policy/scorers/window.h"

namespace pyramidkv {
namespace {

CacheSpec Compressing(std::string_view policy) {
  CacheSpec s;
  s.policy = std::string(policy);
  s.compresses = true;
  return s;
}

CacheSpec Scoring(std::string_view policy, const Scorer* scorer) {
  CacheSpec s = Compressing(policy);
  s.score.scorer = scorer;
  s.score.kernel = 1;
  return s;
}

CacheSpec StreamingLlm() {
  CacheSpec s = Compressing("streaming-llm");
  s.score.select = SelectKind::kRecent;
  s.score.sinks = 4;
  s.budget.evict = Evict::kBoth;
  return s;
}

CacheSpec H2o() {
  CacheSpec s = Scoring("h2o", ColumnSumsScorer());
  s.score.recent = kRecentHalf;
  s.budget.evict = Evict::kBoth;
  return s;
}

CacheSpec Tova() {
  CacheSpec s = Scoring("tova", WindowScorer());
  s.score.window = 1;
  s.score.recent = 1;
  s.score.one_set = true;
  s.budget.evict = Evict::kBoth;
  return s;
}

CacheSpec WithSinks(CacheSpec s) {
  s.score.sinks = 4;
  return s;
}

CacheSpec ExpectedAttention() {
  CacheSpec s =
      WithSinks(Scoring("expected-attention", ExpectedAttentionScorer()));
  s.score.vnorm = ValueNorm::kV;
  return s;
}

// Whole neighbourhoods, the same ones in all KV heads.
CacheSpec ChunkKv() {
  CacheSpec s = Scoring("chunkkv", WindowScorer());
  s.score.window = 32;
  s.score.recent = s.score.window;
  s.score.pool = PoolKind::kChunk;
  s.score.kernel = 20;
  s.score.one_set = true;
  return s;
}

CacheSpec KvZip() {
  CacheSpec s = WithSinks(Scoring("kvzip", KvZipScorer()));
  s.budget.heads = HeadSplit::kGlobal;
  s.score.group = GroupReduce::kMax;
  return s;
}

CacheSpec FarAttention() {
  CacheSpec s = WithSinks(Scoring("far-attention", FarAttentionScorer()));
  s.budget.heads = HeadSplit::kGlobal;
  s.score.group = GroupReduce::kMax;
  s.score.recent = 64;
  s.score.kernel = 31;
  return s;
}

CacheSpec RKv() {
  CacheSpec s = Scoring("r-kv", RKvScorer());
  s.score.window = 8;
  s.score.recent = s.score.window;
  s.score.kernel = 7;
  s.score.pool = PoolKind::kMax;
  s.score.group = GroupReduce::kMax;
  s.budget.evict = Evict::kBoth;
  return s;
}

CacheSpec DuoAttention() {
  CacheSpec s = Compressing("duo-attention");
  s.score.select = SelectKind::kRecent;
  s.budget.heads = HeadSplit::kProfile;
  s.score.sinks = 16;
  s.score.recent = 64;
  return s;
}

// Few entries stay at hand; the others are fetched where a query needs them.
// 192 of them: with 64 three of 100 needles are missed (docs/policies.md).
CacheSpec InfiniGen() {
  CacheSpec s = WithSinks(Compressing("infinigen"));
  s.score.select = SelectKind::kRecent;
  s.budget.tokens = 192;
  s.budget.evict = Evict::kBoth;
  s.tier.remainder = Remainder::kOffload;
  s.budget.full_layers = 2;
  return s;
}

CacheSpec SnapKv(std::string_view policy) {
  CacheSpec s = Compressing(policy);
  s.score.scorer = WindowScorer();
  s.score.window = 32;
  s.score.recent = s.score.window;
  s.score.kernel = 5;
  return s;
}

CacheSpec PyramidKv() {
  CacheSpec s = SnapKv("pyramidkv");
  s.budget.schedule = ScheduleKind::kArithmetic;
  return s;
}

// A pool of 31 keeps the words after a match together with it; without it
// the entries that an answer is copied from are scattered and lost.
CacheSpec SnapKvWide() {
  CacheSpec s = Scoring("snapkv-wide", WindowScorer());
  s.budget.heads = HeadSplit::kGlobal;
  s.budget.floor = 0.2;
  s.score.sinks = 4;
  s.score.recent = 16;
  s.score.window = 16;
  s.score.kernel = 31;
  s.score.reduce = RowReduce::kMax;
  s.score.group = GroupReduce::kMax;
  return s;
}

CacheSpec Family(std::string_view policy, double ratio, int min) {
  CacheSpec s = Compressing(policy);
  s.score.scorer = WindowScorer();
  s.budget.schedule = ScheduleKind::kLinear;
  s.budget.ratio = ratio;
  s.budget.min = min;
  s.score.select = SelectKind::kMixed;
  s.score.sinks = 4;
  s.score.recent = kRecentHalf;
  s.score.window = 32;
  return s;
}

CacheSpec Llama() {
  CacheSpec s = Family("llama", 0.5, 64);
  s.budget.warmup = 0.1;
  return s;
}

CacheSpec Mistral() {
  CacheSpec s = Family("mistral", 0.4, 128);
  s.budget.sliding_window = 4096;
  return s;
}

std::vector<Preset> MakePresets() {
  return {
      {"full", "keeps every entry", "", CacheSpec{}},
      {"streaming-llm", "the first 4 entries and the newest ones",
       "arXiv 2309.17453", StreamingLlm()},
      {"h2o", "entries that gathered most attention so far, and the newest",
       "arXiv 2306.14048", H2o()},
      {"snapkv",
       "entries that the last 32 queries attend to, same budget in each layer",
       "arXiv 2404.14469", SnapKv("snapkv"), true},
      {"pyramidkv", "SnapKV's choice, budgets that fall with depth",
       "arXiv 2406.02069", PyramidKv(), true},
      {"snapkv-wide",
       "SnapKV with a wide pool, one budget for all layers and heads", "",
       SnapKvWide()},
      {"tova", "entries that the newest query attends to, shared by all heads",
       "arXiv 2401.06104", Tova()},
      {"knorm", "entries whose keys have the smallest norm", "arXiv 2406.11430",
       Scoring("knorm", KeyNormScorer())},
      {"keydiff", "entries whose keys differ most from the mean key",
       "arXiv 2504.15364", Scoring("keydiff", KeyDiffScorer())},
      {"expected-attention",
       "entries that queries to come are expected to attend to",
       "arXiv 2510.00636", ExpectedAttention()},
      {"chunkkv", "whole chunks of 20 entries by SnapKV's scores",
       "arXiv 2502.00299", ChunkKv(), true},
      {"kvzip", "entries that repeating the context needs (an extra pass)",
       "arXiv 2505.23416", KvZip()},
      {"far-attention",
       "entries that rows far behind attended to most, without a question", "",
       FarAttention()},
      {"r-kv", "SnapKV's choice less entries that repeat others, in decode too",
       "arXiv 2505.24133", RKv(), true},
      {"duo-attention",
       "whole heads by a profile of the model, the others sinks and recent",
       "arXiv 2410.10819", DuoAttention()},
      {"infinigen",
       "all entries in a cold tier, of which each query fetches what it needs",
       "arXiv 2406.19707", InfiniGen()},
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
