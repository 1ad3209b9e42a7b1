// The plan of a cache against the cache itself, over random specs.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cache/head_format.h"
#include "gtest/gtest.h"
#include "policy/registry.h"
#include "policy/spec.h"
#include "pyramidkv/plan.h"
#include "runtime/testing/kept_trace.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kSpecs = 80;  // of each model
constexpr uint32_t kSeed = 22;

std::vector<TinyGgufOptions> Models() { return WindowModels(1024, 100); }

class RandomSpecs {
 public:
  explicit RandomSpecs(uint32_t seed) : random_(seed) {}

  // A legal one.
  std::string Next() {
    for (;;) {
      std::string text = Draw();
      if (ParseCacheSpec(text).ok()) return text;
    }
  }

  int Number(int from, int to) {
    return from + static_cast<int>(random_() % (to - from + 1));
  }

 private:
  std::string Draw() {
    const auto presets = Presets();
    std::string text(presets[random_() % presets.size()].name);
    switch (random_() % 4) {
      case 0:
        text += fmt::format(",tokens={}", Number(1, 200));
        break;
      case 1:
        text += fmt::format(",memory={}KiB", Number(20, 400));
        break;
      case 2:
        text += fmt::format(",keep={}", Number(1, 20) / 20.0);
        break;
      default:  // the preset's own, or a formula
        break;
    }
    static constexpr std::string_view kMore[] = {"heads=equal",
                                                 "heads=adaptive",
                                                 "heads=global",
                                                 "evict=prefill",
                                                 "evict=decode",
                                                 "evict=both",
                                                 "type=f32",
                                                 "type=int8",
                                                 "type=int4",
                                                 "type_v=int2",
                                                 "scale=tensor",
                                                 "scale=channel",
                                                 "schedule=uniform",
                                                 "schedule=linear",
                                                 "schedule=power",
                                                 "schedule=arithmetic",
                                                 "mode=reference",
                                                 "mode=kvpress",
                                                 "select=recent",
                                                 "select=mixed",
                                                 "sinks=0",
                                                 "sinks=7",
                                                 "recent=3",
                                                 "recent=40",
                                                 "prefill=streaming",
                                                 "positions=renumber",
                                                 "top_type=int8",
                                                 "top_type=f16",
                                                 "remainder=cluster",
                                                 "remainder=offload",
                                                 "sliding_window=77",
                                                 "sliding_window=128",
                                                 "min=9",
                                                 "warmup=0.4",
                                                 "slack=5",
                                                 "from=150",
                                                 "from=400",
                                                 "window=9"};
    for (int more = Number(0, 4); more > 0; --more) {
      text += ',';
      text += kMore[random_() % std::size(kMore)];
    }
    return text;
  }

  std::mt19937 random_;
};

// Whether bytes follow from the spec alone: heads of a layer have budgets that
// scores have no say in, and no entry is held twice or merged.
bool IsExact(const CacheSpec& spec, int head_dim) {
  return (spec.budget.heads == HeadSplit::kEqual || spec.keeps_all()) &&
         !spec.storage.head_format(head_dim).has_sinks() &&
         !spec.storage.ranks_top() &&
         spec.tier.remainder != Remainder::kCluster;
}

// [layers] entries that the next token still sees.
std::vector<int> VisibleOf(const CacheSpec& spec, const PlanDims& dims) {
  std::vector<int> visible;
  for (int l = 0; l < dims.layers; ++l) {
    visible.push_back(dims.tokens);
    const bool has = dims.window_layers.empty() || dims.window_layers[l];
    for (int window :
         {has ? dims.sliding_window : 0, spec.budget.sliding_window}) {
      if (window > 0) visible[l] = std::min(visible[l], window - 1);
    }
  }
  return visible;
}

// [layers] bytes of positions that the cache does not store, as the entries
// that scores chose in a head lie side by side by chance.
std::vector<int64_t> UnstoredPositions(const CacheSpec& spec,
                                       const KeptPositions& kept,
                                       const std::vector<int>& visible) {
  std::vector<int64_t> bytes(visible.size());
  for (const auto& [head, positions] : kept) {
    const auto n = static_cast<int>(positions.size());
    const bool together = positions.back() - positions.front() == n - 1;
    if (spec.score.ranking() == nullptr || !together ||
        n >= visible[head.first]) {
      continue;
    }
    bytes[head.first] += (n + kPageEntries - 1) / kPageEntries * kPageEntries *
                         int64_t{sizeof(int32_t)};
  }
  return bytes;
}

// Without cold tiers, which hold memory in advance (cache/cold_size.h).
// unstored: [layers], or empty where bytes depend on scores.
void ExpectAgreement(const CachePlan& plan, const KvReport& run,
                     const std::vector<int64_t>& unstored) {
  ASSERT_EQ(plan.tier.has_value(), run.tier.has_value());
  const int64_t planned_tier = plan.tier ? plan.tier->bytes : 0;
  const int64_t bytes = run.bytes - (run.tier ? run.tier->bytes : 0);
  EXPECT_LE(bytes, plan.bytes_most - planned_tier);
  EXPECT_EQ(run.bytes_full, plan.bytes_full);
  if (unstored.empty()) return;
  EXPECT_EQ(plan.bytes_most, plan.bytes);
  EXPECT_EQ(
      bytes + std::accumulate(unstored.begin(), unstored.end(), int64_t{}),
      plan.bytes - planned_tier);
  ASSERT_EQ(run.layers.size(), plan.layers.size());
  for (size_t l = 0; l < run.layers.size(); ++l) {
    EXPECT_EQ(run.layers[l].bytes + unstored[l], plan.layers[l].bytes)
        << "layer " << l;
  }
  if (run.tier) {
    EXPECT_EQ(run.tier->entries, plan.tier->entries);
  }
}

TEST(PlanRunTest, RandomSpecsAgree) {
  RandomSpecs specs(kSeed);
  int exact = 0, bounded = 0;
  for (const TinyGgufOptions& model : Models()) {
    const auto engine = TinyEngine(model, 1, Compute::kF32);
    ASSERT_NE(engine, nullptr);
    PlanDims dims;
    dims.layers = model.layers;
    dims.kv_heads = model.kv_heads;
    dims.head_dim = model.head_dim;
    dims.sliding_window = model.sliding_window;
    for (int l = 0; model.architecture == "gemma3" && l < model.layers; ++l) {
      dims.window_layers.push_back((l + 1) % 6 != 0);
    }
    for (int i = 0; i < kSpecs; ++i) {
      const std::string text = specs.Next();
      dims.tokens = specs.Number(20, 260);
      SCOPED_TRACE(fmt::format("{} of {} tokens, {} layers, seed {}", text,
                               dims.tokens, model.layers, kSeed));
      const auto plan = PlanCache(text, dims);
      auto session = engine->NewSession({text, 0, 0});
      KeptPositions kept;
      Status read = session.status();
      if (session.ok()) {
        TraceInto(session->get(), &kept);
        read = (*session)->Read(RandomTokens(dims.tokens, model.vocabulary, i),
                                {});
      }
      ASSERT_EQ(plan.status().code(), read.code())
          << plan.status().message() << " / " << read.message();
      if (!read.ok()) continue;
      const CacheSpec spec = *ParseCacheSpec(text);
      std::vector<int64_t> unstored;
      if (IsExact(spec, model.head_dim)) {
        unstored = UnstoredPositions(spec, kept, VisibleOf(spec, dims));
      }
      ExpectAgreement(*plan, (*session)->Report(), unstored);
      ++(unstored.empty() ? bounded : exact);
    }
  }
  EXPECT_GT(exact, 80);
  EXPECT_GT(bounded, 40);
}

}  // namespace
}  // namespace pyramidkv
