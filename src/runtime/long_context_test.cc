// Prompts in chunks, and contexts longer than the model's.

#include <algorithm>

#include "runtime/testing/kept_trace.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kContext = 2048;

TinyGgufOptions Options(int layers) {
  TinyGgufOptions options;
  options.layers = layers;
  options.context_length = kContext;
  return options;
}

int Longest(const Session& session) {
  int longest = 0;
  for (const auto& layer : session.Report().layers) {
    for (int kept : layer.kept) longest = std::max(longest, kept);
  }
  return longest;
}

// Nothing is evicted: in chunks is at once.
TEST(StreamingPrefill, OfAFullCacheIsExact) {
  auto engine = TinyEngine(Options(3), 2, Compute::kF32);
  const auto prompt = RandomTokens(1500, 320, 1);
  auto exact = MakeSession(engine.get(), "full,type=f32");
  auto streaming = MakeSession(engine.get(), "full,type=f32,prefill=streaming");
  ASSERT_TRUE(exact->Read(prompt, {}).ok());
  ASSERT_TRUE(streaming->Read(prompt, {}).ok());
  EXPECT_EQ(Logits(*exact), Logits(*streaming));
  EXPECT_EQ(streaming->Report().prefill, "streaming");
}

// Whatever the length, the cache holds the budget and one chunk at most.
TEST(StreamingPrefill, MemoryIsBounded) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  for (const char* policy :
       {"snapkv", "pyramidkv", "snapkv-wide", "h2o", "streaming-llm", "tova",
        "knorm", "keydiff", "expected-attention", "chunkkv", "r-kv",
        "far-attention", "snapkv,remainder=cluster,merge=attention",
        "snapkv,heads=adaptive"}) {
    std::string kv(policy);
    kv.insert(std::min(kv.find(','), kv.size()),
              ",tokens=100,prefill=streaming");
    int64_t peak = 0;
    for (int length : {1200, 2048}) {
      auto session = MakeSession(engine.get(), kv);
      const Status status = session->Read(RandomTokens(length, 320, 1), {});
      ASSERT_TRUE(status.ok()) << kv << ": " << status.message();
      const KvReport report = session->Report();
      EXPECT_EQ(report.entries_kept, 2 * 2 * 100) << kv;
      // 1,152 rows of a chunk never are in the cache all at once, but for
      // heads=global, which holds one layer of them.
      if (peak == 0) peak = report.peak_bytes;
      EXPECT_LE(report.peak_bytes, peak * 5 / 4) << kv;
    }
  }
}

// `keep` is a share of the whole prompt, not of a chunk.
TEST(StreamingPrefill, KeepIsMetAtTheEndOfThePrompt) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  auto session = MakeSession(engine.get(), "snapkv,keep=0.3,prefill=streaming");
  ASSERT_TRUE(session->Read(RandomTokens(1700, 320, 1), {}).ok());
  EXPECT_EQ(session->Report().entries_kept, 2 * 2 * 510);
}

// Progress rises to its total over all chunks; a cancelled prompt leaves the
// session as new.
TEST(StreamingPrefill, ProgressAndCancellation) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  auto session =
      MakeSession(engine.get(), "snapkv,tokens=100,prefill=streaming");
  const auto prompt = RandomTokens(2000, 320, 1);
  const auto stop_late = [](int64_t done, int64_t total) {
    return done < total * 3 / 4;
  };
  EXPECT_EQ(session->Read(prompt, stop_late).code(), StatusCode::kCancelled);
  EXPECT_EQ(session->position(), 0);
  int64_t last = -1;
  ASSERT_TRUE(session
                  ->Read(prompt,
                         [&](int64_t done, int64_t total) {
                           EXPECT_GT(done, last);
                           EXPECT_LT(done, total);
                           last = done;
                           return true;
                         })
                  .ok());
}

// Right after it was renumbered, a context lies where a fresh one of the kept
// tokens would. One layer: its keys depend on token and position alone.
TEST(Renumber, PositionsAreThoseOfAFreshContext) {
  auto engine = TinyEngine(Options(1), 2, Compute::kF32);
  for (const char* kv : {"streaming-llm,tokens=300,positions=renumber,type=f32",
                         "snapkv,tokens=300,evict=both,select=recent,sinks=4,"
                         "positions=renumber,type=f32"}) {
    auto session = MakeSession(engine.get(), kv);
    auto tokens = RandomTokens(kContext, 320, 1);
    ASSERT_TRUE(session->Read(tokens, {}).ok());
    // Has no place any more, nor has what comes a context later.
    for (int turn = 0; turn < 3; ++turn) {
      tokens.push_back(7);
      ASSERT_TRUE(session->Force(std::vector<int>{7}).ok());
      const int kept = Longest(*session);
      std::vector<int> left(tokens.begin(), tokens.begin() + 4);
      left.insert(left.end(), tokens.end() - (kept - 4), tokens.end());
      auto fresh = MakeSession(engine.get(), "full,type=f32");
      ASSERT_TRUE(fresh->Read(left, {}).ok());
      const auto want = Logits(*fresh), got = Logits(*session);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(got[i], want[i], 1e-3) << kv << " token " << i;
      }
      // Up to the next place that there is not.
      const auto more = RandomTokens(kContext - kept, 320, turn);
      ASSERT_TRUE(session->Force(more).ok());
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
    EXPECT_GT(session->position(), 3 * kContext);
  }
}

// Where rows are cut into calls does not show, renumbered or not.
TEST(Renumber, ForcedRowsInOneCallOrOneByOne) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  for (const char* kv :
       {"streaming-llm,tokens=200,positions=renumber",
        "h2o,tokens=200,positions=renumber",
        "snapkv,tokens=200,positions=renumber,evict=both",
        "pyramidkv,tokens=200,positions=renumber,evict=both,remainder=cluster",
        "expected-attention,tokens=200,positions=renumber,evict=both"}) {
    auto together = MakeSession(engine.get(), kv);
    auto apart = MakeSession(engine.get(), kv);
    for (Session* s : {together.get(), apart.get()}) {
      ASSERT_TRUE(s->Read(RandomTokens(1900, 320, 1), {}).ok()) << kv;
    }
    const auto more = RandomTokens(300, 320, 2);
    ASSERT_TRUE(together->Force(more).ok());
    for (int token : more) {
      ASSERT_TRUE(apart->Force(std::vector<int>{token}).ok());
    }
    EXPECT_EQ(Logits(*together), Logits(*apart)) << kv;
    // And a turn that does not fit where the last one ended.
    ASSERT_TRUE(together->Read(RandomTokens(1500, 320, 3), {}).ok());
    EXPECT_EQ(together->position(), 3700);
  }
}

TEST(Renumber, LongPromptsAtConstantMemory) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  auto session = MakeSession(
      engine.get(), "snapkv,tokens=100,positions=renumber,prefill=streaming");
  ASSERT_TRUE(session->Read(RandomTokens(9000, 320, 1), {}).ok());
  const KvReport report = session->Report();
  EXPECT_EQ(report.tokens_seen, 9000);
  EXPECT_EQ(report.entries_kept, 2 * 2 * 100);
}

TEST(Renumber, WhatDoesNotFitIsRefused) {
  auto engine = TinyEngine(Options(2), 2, Compute::kAuto);
  auto exact =
      MakeSession(engine.get(), "streaming-llm,tokens=100,positions=renumber");
  const Status whole = exact->Read(RandomTokens(3000, 320, 1), {});
  EXPECT_EQ(whole.code(), StatusCode::kDoesNotFit);
  auto large = MakeSession(
      engine.get(),
      "streaming-llm,tokens=1500,positions=renumber,prefill=streaming");
  const Status budget = large->Read(RandomTokens(9000, 320, 1), {});
  EXPECT_EQ(budget.code(), StatusCode::kDoesNotFit);
  EXPECT_NE(budget.message().find("smaller budget"), std::string::npos);
}

}  // namespace
}  // namespace pyramidkv
