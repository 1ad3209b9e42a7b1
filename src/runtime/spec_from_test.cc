// The key `from`: below so many tokens nothing leaves, however a context comes
// to them.

#include <filesystem>
#include <string>
#include <vector>

#include "pyramidkv/plan.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kLayers = 2;
constexpr int kHeads = kLayers * 2;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = kLayers;
  options.context_length = 4096;
  return options;
}

class SpecFromTest : public testing::Test {
 protected:
  std::unique_ptr<Session> Read(const std::string& kv, int tokens) {
    auto session = MakeSession(engine_.get(), kv);
    EXPECT_TRUE(session->Read(RandomTokens(tokens, 320, 1), {}).ok()) << kv;
    return session;
  }

  std::unique_ptr<Engine> engine_ = TinyEngine(Options(), 2, Compute::kAuto);
};

TEST_F(SpecFromTest, IsShown) {
  EXPECT_EQ(Read("snapkv,keep=0.5,from=40", 9)->Report().spec,
            "snapkv,keep=0.5,from=40");
}

// While tokens are generated nothing leaves either, and then down to the share
// of the tokens that it was waited for.
TEST_F(SpecFromTest, DecodingWaits) {
  auto session = Read("snapkv,keep=0.5,from=200,evict=both,slack=8", 45);
  for (int seen = 46; seen < 200; ++seen) {
    ASSERT_TRUE(session->Force(RandomTokens(1, 320, seen)).ok());
    ASSERT_EQ(session->Report().entries_kept, kHeads * seen);
  }
  ASSERT_TRUE(session->Force(RandomTokens(1, 320, 7)).ok());
  EXPECT_EQ(session->Report().entries_kept, kHeads * 100);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(session->Force(RandomTokens(11, 320, i)).ok());
    ASSERT_LE(session->Report().entries_kept, kHeads * 108);
  }
}

TEST_F(SpecFromTest, RowsAtOnceDoNotMatter) {
  const char* const kv = "snapkv,keep=0.5,from=100,evict=both,slack=8";
  auto many = Read(kv, 45), single = Read(kv, 45);
  const std::vector<int> tokens = RandomTokens(120, 320, 2);
  ASSERT_TRUE(many->Force(tokens).ok());
  for (int token : tokens) ASSERT_TRUE(single->Force({&token, 1}).ok());
  EXPECT_EQ(Logits(*many), Logits(*single));
}

// Parts of a streamed prompt are counted by what was seen, as turns are.
TEST_F(SpecFromTest, StreamedPromptsWait) {
  const std::string kv = "snapkv,keep=0.25,prefill=streaming";
  EXPECT_EQ(Read(kv + ",from=1400", 1399)->Report().entries_kept,
            kHeads * 1399);
  EXPECT_EQ(Read(kv + ",from=1400", 1400)->Report().entries_kept, kHeads * 350);
  EXPECT_EQ(Logits(*Read(kv + ",from=1400", 1399)),
            Logits(*Read("full,prefill=streaming", 1399)));
}

TEST_F(SpecFromTest, ForksAndFilesWait) {
  auto session = Read("snapkv-wide,keep=0.5,from=100", 60);
  auto fork = ForkOf(session.get());
  const std::string path =
      (std::filesystem::temp_directory_path() /
       ("pyramidkv_from_" + std::to_string(getpid()) + ".pkv"))
          .string();
  ASSERT_TRUE(session->Save(path).ok());
  auto loaded = engine_->LoadSession(path, {});
  std::filesystem::remove(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  for (Session* s : {session.get(), fork.get(), loaded->get()}) {
    ASSERT_TRUE(s->Read(RandomTokens(39, 320, 2), {}).ok());
    EXPECT_EQ(s->Report().entries_kept, kHeads * 99);
    ASSERT_TRUE(s->Read(RandomTokens(1, 320, 3), {}).ok());
    EXPECT_EQ(s->Report().entries_kept, kHeads * 50);
  }
  EXPECT_EQ(Logits(*session), Logits(*fork));
  EXPECT_EQ(Logits(*session), Logits(**loaded));
}

TEST_F(SpecFromTest, IsPlanned) {
  PlanDims dims;
  dims.layers = kLayers;
  dims.kv_heads = 2;
  dims.head_dim = 16;
  for (dims.tokens = 298; dims.tokens <= 301; ++dims.tokens) {
    const auto plan = PlanCache("snapkv-wide,keep=0.5,from=300", dims);
    ASSERT_TRUE(plan.ok());
    const bool waits = dims.tokens < 300;
    EXPECT_EQ(plan->bytes == PlanCache("full", dims)->bytes, waits);
    EXPECT_EQ(plan->warnings.empty(), waits);
    EXPECT_GE(
        plan->bytes_most,
        Read("snapkv-wide,keep=0.5,from=300", dims.tokens)->Report().bytes);
  }
}

}  // namespace
}  // namespace pyramidkv
