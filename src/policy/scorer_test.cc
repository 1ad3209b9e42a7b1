// A scorer's traits are what the spec's checks and keys make of it.

#include "policy/scorer.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

#include "policy/layer_scores.h"
#include "policy/registry.h"

namespace pyramidkv {
namespace {

// A trait that is left out does not compile.
static_assert(!std::is_default_constructible_v<YesNo>);
static_assert(!std::is_default_constructible_v<ScorerTraits>);

bool IsLegal(const Preset& preset, const std::string& more) {
  return ParseCacheSpec(std::string(preset.name) + ",keep=0.5" + more).ok();
}

template <class Check>
void ForEachScorer(const Check& check) {
  int scorers = 0;
  for (const Preset& preset : Presets()) {
    if (preset.spec.score.scorer == nullptr) continue;
    SCOPED_TRACE(preset.name);
    check(preset, preset.spec.score.scorer->traits());
    ++scorers;
  }
  EXPECT_GE(scorers, 8);
}

TEST(ScorerTraitsTest, KeysHaveAnEffectWhereTheyAreUsed) {
  ForEachScorer([](const Preset& preset, const ScorerTraits& traits) {
    EXPECT_EQ(IsLegal(preset, ",window=7"), bool(traits.window));
    EXPECT_EQ(IsLegal(preset, ",reduce=max"), bool(traits.window));
    EXPECT_EQ(IsLegal(preset, ",evict=prefill,group=max"),
              bool(traits.query_heads));
    EXPECT_EQ(IsLegal(preset, ",decay=0.9"), bool(traits.sums));
    EXPECT_EQ(IsLegal(preset, ",grace=3"), bool(traits.sums));
    EXPECT_EQ(IsLegal(preset, ",variant=observed"), bool(traits.sums));
    EXPECT_FALSE(IsLegal(preset, ",select=recent,decay=0.9"));
  });
}

TEST(ScorerTraitsTest, SpecsGoWithWhatTheScorerGoesWith) {
  ForEachScorer([](const Preset& preset, const ScorerTraits& traits) {
    for (const char* evict : {",evict=decode", ",evict=both"}) {
      const char* const bounded =
          preset.spec.budget.warmup > 0 ? ",warmup=0" : "";
      EXPECT_EQ(IsLegal(preset, std::string(evict) + bounded),
                bool(traits.decodes))
          << evict;
    }
    EXPECT_EQ(IsLegal(preset, ",evict=prefill,prefill=streaming"),
              bool(traits.streams));
    EXPECT_EQ(IsLegal(preset, ",prefill=sparse"), bool(traits.sparse));
  });
}

TEST(ScorerTraitsTest, ThePassBringsWhatTheScorerSees) {
  ForEachScorer([](const Preset& preset, const ScorerTraits& traits) {
    const ScorerNeeds needs = NeedsOf(preset.spec);
    EXPECT_EQ(needs.all_rows, bool(traits.all_rows));
    EXPECT_EQ(needs.repetition, bool(traits.repetition));
    EXPECT_EQ(needs.query_statistics, bool(traits.query_statistics));
    EXPECT_EQ(needs.gathers, bool(traits.gathers));
    if (traits.window) {
      EXPECT_EQ(needs.window_rows, preset.spec.score.window);
    }
  });
}

}  // namespace
}  // namespace pyramidkv
