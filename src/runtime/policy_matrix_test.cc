// Laws that every policy has to pass, over the table of example specs
// (policy/registry.h) on a small random model.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "policy/registry.h"
#include "policy/select.h"
#include "runtime/testing/head_profile_file.h"
#include "runtime/testing/kept_trace.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kLayers = 2;
constexpr int kKvHeads = 2;
constexpr int kPrompt = 400;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = kLayers;
  options.kv_heads = kKvHeads;
  options.context_length = 2048;
  return options;
}

std::vector<std::string> CompressingSpecs() {
  std::vector<std::string> specs = ExampleSpecs(HeadProfileFile(kLayers));
  std::erase(specs, "full");
  // Has whole layers and loses nothing: recall_test.cc.
  std::erase_if(specs, [](const std::string& text) {
    return text.starts_with("infinigen");
  });
  return specs;
}

CacheSpec Parsed(const std::string& text) {
  const auto spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  const size_t at = name.find(",profile=");
  if (at != name.npos) {
    name.erase(at, std::min(name.find(',', at + 1), name.size()) - at);
  }
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name + "_" + std::to_string(info.index);
}

// `full` with the types of a spec.
std::string FullLike(const std::string& spec) {
  const size_t at = spec.find(",type");
  return "full" + (at == spec.npos ? "" : spec.substr(at));
}

// A spec without some of its keys, each as ",key=".
std::string Without(const std::vector<std::string>& keys, std::string kv) {
  for (const std::string& key : keys) {
    const size_t at = kv.find(key);
    if (at == kv.npos) continue;
    kv.erase(at, std::min(kv.find(',', at + 1), kv.size()) - at);
  }
  return kv;
}

class PolicyMatrix : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    engine_ = TinyEngine(Options(), 2, Compute::kAuto).release();
    one_thread_ = TinyEngine(Options(), 1, Compute::kAuto).release();
  }
  static void TearDownTestSuite() {
    delete engine_;
    delete one_thread_;
  }

  std::unique_ptr<Session> Session_(const std::string& kv) {
    return MakeSession(engine_, kv);
  }
  static std::vector<int> Prompt() { return RandomTokens(kPrompt, 320, 1); }

  static Engine* engine_;
  static Engine* one_thread_;
};
Engine* PolicyMatrix::engine_ = nullptr;
Engine* PolicyMatrix::one_thread_ = nullptr;

// Whatever else the spec says, but for what holds entries finer.
TEST_P(PolicyMatrix, KeepOneIsFull) {
  const std::string kv =
      Without({",top_type=", ",top=", ",keep=", ",tokens="}, GetParam());
  std::vector<std::vector<float>> logits;
  std::vector<int64_t> bytes;
  for (const std::string& spec : {FullLike(kv), kv + ",keep=1"}) {
    auto session = Session_(spec);
    ASSERT_TRUE(session->Read(Prompt(), {}).ok()) << spec;
    logits.push_back(*session->Force(RandomTokens(64, 320, 2)));
    ASSERT_TRUE(session->Read(RandomTokens(40, 320, 3), {}).ok());
    const auto last = Logits(*session);
    logits.back().insert(logits.back().end(), last.begin(), last.end());
    bytes.push_back(session->Report().bytes);
  }
  EXPECT_EQ(logits[0], logits[1]) << kv;
  EXPECT_EQ(bytes[0], bytes[1]) << kv;
}

TEST_P(PolicyMatrix, TotalIsExactAndBytesFall) {
  auto full = Session_(FullLike(GetParam()));
  ASSERT_TRUE(full->Read(Prompt(), {}).ok());
  auto session = Session_(GetParam());
  ASSERT_TRUE(session->Read(Prompt(), {}).ok());
  const CacheSpec spec = Parsed(GetParam());
  if (!spec.evicts_prompt()) {
    EXPECT_EQ(session->Report().entries_kept, kLayers * kKvHeads * kPrompt);
    return;
  }
  const KvReport report = session->Report();
  const int64_t all = int64_t{kLayers} * kKvHeads * kPrompt;
  const int64_t want =
      spec.budget.keep
          ? std::llround(*spec.budget.keep * static_cast<double>(all))
          : int64_t{*spec.budget.tokens} * kLayers * kKvHeads;
  if (report.warnings.empty()) {
    EXPECT_EQ(report.entries_kept, want);
  } else {
    EXPECT_GT(report.entries_kept, want);
    EXPECT_LT(report.entries_kept, all);
  }
  EXPECT_LT(report.bytes, full->Report().bytes);
}

// `full` while fewer than `from` tokens were seen, whatever else the spec says;
// from there on the budget, and while tokens are generated never before.
TEST_P(PolicyMatrix, FromIsFullBelowIt) {
  if (!Parsed(GetParam()).budget.keep) GTEST_SKIP() << "a bound always holds";
  const std::string kv = Without({",top_type=", ",top="}, GetParam());
  auto full = Session_(FullLike(kv));
  auto session = Session_(kv + ",from=" + std::to_string(kPrompt + 80));
  for (Session* s : {full.get(), session.get()}) {
    ASSERT_TRUE(s->Read(Prompt(), {}).ok());
    ASSERT_TRUE(s->Read(RandomTokens(9, 320, 4), {}).ok());
    ASSERT_TRUE(s->Force(RandomTokens(70, 320, 2)).ok());
  }
  EXPECT_EQ(Logits(*session), Logits(*full));
  EXPECT_EQ(session->Report().entries_kept, full->Report().entries_kept);
  EXPECT_TRUE(session->Report().warnings.empty());
  ASSERT_TRUE(session->Read(RandomTokens(21, 320, 3), {}).ok());
  const int64_t all = int64_t{kLayers} * kKvHeads * (kPrompt + 100);
  if (Parsed(kv).evicts_prompt()) {
    EXPECT_LE(session->Report().entries_kept, all / 2);
  } else {
    EXPECT_EQ(session->Report().entries_kept, all);
  }
}

// Sinks and recent entries are there, and positions ascend.
TEST_P(PolicyMatrix, ProtectedEntriesStay) {
  const CacheSpec spec = Parsed(GetParam());
  KeptPositions kept;
  auto session = Session_(GetParam());
  TraceInto(session.get(), &kept);
  ASSERT_TRUE(session->Read(Prompt(), {}).ok());
  if (spec.evicts_decoded()) {
    ASSERT_TRUE(session->Force(RandomTokens(130, 320, 2)).ok());
  }
  ASSERT_FALSE(kept.empty());
  int newest = 0;
  for (const auto& [head, positions] : kept) {
    newest = std::max(newest, positions.back());
  }
  for (const auto& [head, positions] : kept) {
    ASSERT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    ASSERT_EQ(std::adjacent_find(positions.begin(), positions.end()),
              positions.end());
    const int budget = static_cast<int>(positions.size());
    const Protected p = ProtectedEntries(spec, newest + 1, budget);
    for (int i = 0; i < std::min(p.sinks, spec.score.sinks); ++i) {
      EXPECT_EQ(positions[i], i);
    }
    // Merged entries take room that a share of recent ones is measured by.
    const int recent = spec.tier.remainder == Remainder::kCluster
                           ? std::max(spec.score.recent, 0)
                           : p.recent;
    for (int i = 0; i < std::min(recent, budget); ++i) {
      EXPECT_EQ(positions[budget - 1 - i], newest - i)
          << "layer " << head.first << " head " << head.second;
    }
  }
}

TEST_P(PolicyMatrix, BatchOfMixedLengthsEqualsSingles) {
  const std::vector<int> lengths = {kPrompt, 90, 233};
  const auto steps = RandomTokens(100, 320, 9);
  std::vector<std::unique_ptr<Session>> batch;
  std::vector<Session*> sessions;
  for (int length : lengths) {
    batch.push_back(Session_(GetParam()));
    ASSERT_TRUE(batch.back()->Read(RandomTokens(length, 320, 5), {}).ok());
    sessions.push_back(batch.back().get());
  }
  for (int token : steps) {
    ASSERT_TRUE(
        engine_->DecodeBatch(sessions, std::vector<int>(3, token)).ok());
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    auto single = Session_(GetParam());
    ASSERT_TRUE(single->Read(RandomTokens(lengths[i], 320, 5), {}).ok());
    ASSERT_TRUE(single->Force(steps).ok());  // many rows at once
    EXPECT_EQ(Logits(*single), Logits(*batch[i])) << lengths[i] << " tokens";
    EXPECT_EQ(single->Report().bytes, batch[i]->Report().bytes);
  }
}

// Generated tokens never take a cache past its budget and the slack.
TEST_P(PolicyMatrix, DecodeStaysWithinBudgetAndSlack) {
  CacheSpec spec = Parsed(GetParam());
  if (!spec.evicts_decoded()) GTEST_SKIP() << "evicts the prompt alone";
  auto session = Session_(GetParam());
  ASSERT_TRUE(session->Read(RandomTokens(150, 320, 4), {}).ok());
  const int64_t heads = kLayers * kKvHeads;
  const int64_t total = spec.budget.tokens ? *spec.budget.tokens * heads
                                           : session->Report().entries_kept;
  if (spec.budget.evict == Evict::kDecode) {
    ASSERT_TRUE(session->Force(RandomTokens(2, 320, 5)).ok());
  }
  const int64_t budget = spec.budget.evict == Evict::kDecode
                             ? session->Report().entries_kept
                             : total;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(session->Force(RandomTokens(20, 320, 6 + i)).ok());
    EXPECT_LE(session->Report().entries_kept,
              budget + heads * spec.budget.slack)
        << "after " << (i + 1) * 20 << " tokens";
  }
  EXPECT_GT(session->position(), 4 * budget / heads);
}

TEST_P(PolicyMatrix, ThreadsDoNotChangeABit) {
  std::vector<std::vector<float>> logits;
  for (Engine* engine : {one_thread_, engine_}) {
    auto session = MakeSession(engine, GetParam());
    ASSERT_TRUE(session->Read(Prompt(), {}).ok());
    logits.push_back(*session->Force(RandomTokens(100, 320, 2)));
  }
  EXPECT_EQ(logits[0], logits[1]);
}

TEST_P(PolicyMatrix, ExtendGoesOn) {
  auto session = Session_(GetParam());
  ASSERT_TRUE(session->Read(Prompt(), {}).ok());
  ASSERT_TRUE(session->Read(RandomTokens(300, 320, 2), {}).ok());
  ASSERT_TRUE(session->Force(RandomTokens(30, 320, 3)).ok());
  ASSERT_TRUE(session->Read(RandomTokens(7, 320, 4), {}).ok());
  EXPECT_EQ(session->Report().tokens_seen, kPrompt + 337);
  EXPECT_LT(session->Report().entries_kept,
            int64_t{kLayers} * kKvHeads * (kPrompt + 337));
}

// Kept sets differ between SIMD targets in a few entries near the threshold.
TEST_P(PolicyMatrix, KeptSetsOnEveryTarget) {
  const CacheSpec spec = Parsed(GetParam());
  if (spec.tier.remainder == Remainder::kCluster) {
    GTEST_SKIP() << "positions of merged entries follow from all members";
  }
  std::vector<KeptPositions> sets;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    auto engine = TinyEngine(Options(), 2, Compute::kF32);
    sets.emplace_back();
    auto session = MakeSession(engine.get(), GetParam());
    TraceInto(session.get(), &sets.back());
    ASSERT_TRUE(session->Read(Prompt(), {}).ok());
    if (!spec.evicts_prompt()) {
      ASSERT_TRUE(session->Force(RandomTokens(70, 320, 2)).ok());
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  for (const KeptPositions& other : sets) {
    size_t all = 0, same = 0;
    for (const auto& [head, positions] : sets[0]) {
      std::vector<int> both;
      const auto& theirs = other.at(head);
      std::set_intersection(positions.begin(), positions.end(), theirs.begin(),
                            theirs.end(), std::back_inserter(both));
      all += positions.size();
      same += both.size();
    }
    EXPECT_GE(same * 1000, all * 995) << same << " of " << all;
  }
}

INSTANTIATE_TEST_SUITE_P(All, PolicyMatrix,
                         testing::ValuesIn(CompressingSpecs()), NameOf);

}  // namespace
}  // namespace pyramidkv
