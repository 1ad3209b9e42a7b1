#include <algorithm>
#include <cmath>

#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 4;
  options.context_length = 1024;
  return options;
}

class SessionTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> engine_ = TinyEngine(Options(), 2, Compute::kAuto);
};

// keep=1 is the full cache, bit for bit: prompt, 64 steps, a second turn.
TEST_F(SessionTest, KeepOneIsFullForEverySchedule) {
  const auto prompt = RandomTokens(333, 320, 1);
  auto full = MakeSession(engine_.get(), "full");
  ASSERT_TRUE(full->Read(prompt, {}).ok());
  std::vector<float> want = *full->Force(RandomTokens(64, 320, 2));
  ASSERT_TRUE(full->Read(RandomTokens(40, 320, 3), {}).ok());
  const auto last = Logits(*full);
  want.insert(want.end(), last.begin(), last.end());
  for (const char* kv :
       {"snapkv", "snapkv,schedule=linear", "snapkv,schedule=power",
        "snapkv,schedule=table,table=steps", "pyramidkv",
        "pyramidkv,mode=reference", "pyramidkv,mode=kvpress", "snapkv-wide",
        "snapkv-wide,heads=equal", "llama", "mistral"}) {
    auto session = MakeSession(engine_.get(), std::string(kv) + ",keep=1");
    ASSERT_NE(session, nullptr);
    ASSERT_TRUE(session->Read(prompt, {}).ok()) << kv;
    std::vector<float> got = *session->Force(RandomTokens(64, 320, 2));
    ASSERT_TRUE(session->Read(RandomTokens(40, 320, 3), {}).ok());
    const auto end = Logits(*session);
    got.insert(got.end(), end.begin(), end.end());
    EXPECT_EQ(got, want) << kv;
    EXPECT_EQ(session->Report().bytes, full->Report().bytes) << kv;
    EXPECT_EQ(session->Report().retained_mass, 1.0) << kv;
  }
}

TEST_F(SessionTest, FullBytesAreExactAtWholePages) {
  auto session = MakeSession(engine_.get(), "full");
  ASSERT_TRUE(session->Read(RandomTokens(320, 320, 1), {}).ok());
  const KvReport report = session->Report();
  EXPECT_EQ(report.bytes, report.bytes_full);
  EXPECT_EQ(report.bytes_full, 2LL * 4 * 2 * 16 * 320 * 2);
  EXPECT_EQ(report.tokens_seen, 320);
  EXPECT_EQ(report.entries_kept, report.entries_full);
}

TEST_F(SessionTest, KeepIsMetExactly) {
  for (const char* policy : {"snapkv", "pyramidkv", "snapkv-wide",
                             "snapkv,schedule=linear", "llama"}) {
    for (double keep : {0.9, 0.5, 0.31, 0.2}) {
      for (int length : {400, 777}) {
        auto session =
            MakeSession(engine_.get(),
                        std::string(policy) + ",keep=" + std::to_string(keep));
        ASSERT_TRUE(session->Read(RandomTokens(length, 320, 1), {}).ok());
        const KvReport report = session->Report();
        if (!report.warnings.empty()) continue;  // clamped, and says so
        EXPECT_EQ(report.entries_kept, std::lround(keep * 4 * 2 * length))
            << policy << " keep " << keep << " of " << length;
      }
    }
  }
}

TEST_F(SessionTest, MemoryIsNeverExceeded) {
  const auto prompt = RandomTokens(600, 320, 1);
  for (const char* policy :
       {"snapkv", "pyramidkv", "snapkv-wide", "h2o", "kvzip",
        "snapkv,heads=adaptive", "snapkv,remainder=cluster",
        "h2o,evict=prefill", "snapkv,evict=both"}) {
    for (int kib : {150, 100, 80}) {
      const int64_t limit = kib * 1024;
      auto session = MakeSession(
          engine_.get(),
          std::string(policy) + ",memory=" + std::to_string(kib) + "KiB", 50);
      ASSERT_TRUE(session->Read(prompt, {}).ok());
      EXPECT_LE(session->Report().bytes, limit) << policy;
      ASSERT_TRUE(session->Force(RandomTokens(50, 320, 2)).ok());
      EXPECT_LE(session->Report().bytes, limit) << policy;
      // And it is used, not merely respected.
      EXPECT_GT(session->Report().bytes, limit * 6 / 10) << policy;
    }
  }
}

TEST_F(SessionTest, MemoryNeedsABoundedAnswer) {
  auto session = engine_->NewSession({"snapkv,memory=1MiB", 0, -1});
  ASSERT_TRUE(session.ok());
  const Status status = (*session)->Read(RandomTokens(100, 320, 1), {});
  EXPECT_EQ(status.code(), StatusCode::kUsage);
  EXPECT_NE(status.message().find("memory"), std::string::npos);
  EXPECT_NE(status.message().find("evict"), std::string::npos);
}

TEST_F(SessionTest, ExtendResolvesTheBudgetAnew) {
  auto session = MakeSession(engine_.get(), "snapkv,keep=0.5,window=8");
  ASSERT_TRUE(session->Read(RandomTokens(300, 320, 1), {}).ok());
  EXPECT_EQ(session->Report().entries_kept, 4 * 2 * 150);
  ASSERT_TRUE(session->Force(RandomTokens(20, 320, 2)).ok());
  EXPECT_EQ(session->Report().entries_kept, 4 * 2 * 170);
  ASSERT_TRUE(session->Read(RandomTokens(80, 320, 3), {}).ok());
  const KvReport report = session->Report();
  EXPECT_EQ(report.tokens_seen, 400);
  EXPECT_EQ(report.entries_kept, 4 * 2 * 200);
  for (const auto& layer : report.layers) EXPECT_EQ(layer.budget, 200);
}

TEST_F(SessionTest, TraceGivesKeptPositions) {
  auto session = MakeSession(engine_.get(), "snapkv,keep=0.25,window=8");
  std::vector<std::string> lines;
  session->SetTrace([&](std::string_view line) { lines.emplace_back(line); });
  ASSERT_TRUE(session->Read(RandomTokens(400, 320, 1), {}).ok());
  ASSERT_EQ(lines.size(), 8u);
  EXPECT_EQ(lines[3].rfind(R"({"layer":1,"head":1,"step":0,"seen":400,)", 0),
            0u);
  EXPECT_EQ(std::count(lines[3].begin(), lines[3].end(), ','), 4 + 99);
  // The window is always there.
  EXPECT_NE(lines[3].find("392,393,394,395,396,397,398,399]"),
            std::string::npos);
}

TEST_F(SessionTest, RetainedMassFallsWithTheBudget) {
  double last = 1.1;
  for (const char* keep : {"0.9", "0.5", "0.2"}) {
    auto session =
        MakeSession(engine_.get(), std::string("snapkv,keep=") + keep);
    ASSERT_TRUE(session->Read(RandomTokens(600, 320, 1), {}).ok());
    const double mass = session->Report().retained_mass.value();
    EXPECT_LT(mass, last);
    EXPECT_GT(mass, 0.0);
    last = mass;
  }
  auto recent = MakeSession(engine_.get(), "snapkv,keep=0.5,select=recent");
  ASSERT_TRUE(recent->Read(RandomTokens(600, 320, 1), {}).ok());
  EXPECT_LT(*recent->Report().retained_mass, 1.0);
}

TEST_F(SessionTest, Errors) {
  auto session = MakeSession(engine_.get(), "full");
  EXPECT_EQ(session->Read({}, {}).code(), StatusCode::kUsage);
  EXPECT_EQ(session->Read(std::vector<int>{5, 320}, {}).code(),
            StatusCode::kUsage);
  EXPECT_EQ(session->Read(std::vector<int>{-1}, {}).code(), StatusCode::kUsage);
  const Status status = session->Read(RandomTokens(1025, 320, 1), {});
  EXPECT_EQ(status.code(), StatusCode::kDoesNotFit);
  EXPECT_NE(status.message().find("1025"), std::string::npos);
  EXPECT_NE(status.message().find("1024"), std::string::npos);
  // None of this harmed it.
  EXPECT_TRUE(session->Read(RandomTokens(1000, 320, 1), {}).ok());
  EXPECT_EQ(session->Force(RandomTokens(25, 320, 1)).status().code(),
            StatusCode::kDoesNotFit);
  EXPECT_TRUE(session->Force(RandomTokens(24, 320, 1)).ok());
  EXPECT_FALSE(engine_->NewSession({"nonsense", 0, 0}).ok());
}

TEST_F(SessionTest, CancelledPrefillLeavesAnEmptySession) {
  auto session = MakeSession(engine_.get(), "full");
  int calls = 0;
  const Status status = session->Read(
      RandomTokens(600, 320, 1), [&](int64_t, int64_t) { return ++calls < 4; });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(session->position(), 0);
  EXPECT_EQ(session->Report().bytes, 0);
  EXPECT_TRUE(session->Read(RandomTokens(600, 320, 1), {}).ok());
}

TEST_F(SessionTest, GenerateIsGreedyAndStops) {
  auto session = MakeSession(engine_.get(), "full");
  ASSERT_TRUE(session->Read(RandomTokens(50, 320, 1), {}).ok());
  GenerateOptions options;
  options.max_tokens = 10;
  options.ignore_eos = true;
  options.logprobs = 3;
  int rows = 0;
  options.on_logits = [&](std::span<const float> logits) {
    EXPECT_EQ(logits.size(), 320u);
    ++rows;
    return true;
  };
  const auto answer = session->Generate(options);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->tokens.size(), 10u);
  EXPECT_EQ(answer->finish_reason, "length");
  EXPECT_EQ(rows, 10);
  EXPECT_EQ(session->position(), 59);  // the last one is not decoded
  for (const auto& token : answer->tokens) {
    ASSERT_EQ(token.top.size(), 3u);
    EXPECT_EQ(token.top[0].id, token.id);
    EXPECT_EQ(token.top[0].logprob, token.logprob);
    EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
  }
}

TEST_F(SessionTest, ForcedTokensGiveOneRowMore) {
  auto session = MakeSession(engine_.get(), "full");
  ASSERT_TRUE(session->Read(RandomTokens(50, 320, 1), {}).ok());
  GenerateOptions options;
  options.forced = RandomTokens(33, 320, 2);
  options.max_tokens = 33;
  std::vector<std::vector<float>> rows;
  options.on_logits = [&](std::span<const float> logits) {
    rows.emplace_back(logits.begin(), logits.end());
    return true;
  };
  const auto answer = session->Generate(options);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->tokens.size(), 33u);
  ASSERT_EQ(rows.size(), 34u);
  EXPECT_EQ(session->position(), 83);
  auto check = MakeSession(engine_.get(), "full");
  ASSERT_TRUE(check->Read(RandomTokens(50, 320, 1), {}).ok());
  EXPECT_EQ(Logits(*check), rows[0]);
  for (int i = 0; i < 33; ++i) {
    ASSERT_TRUE(check->Force(std::vector<int>{options.forced[i]}).ok());
    EXPECT_EQ(Logits(*check), rows[i + 1]) << i;
  }
}

}  // namespace
}  // namespace pyramidkv
