#include "runtime/sparse_prefill.h"

#include <numeric>

#include "kernels/testing/all_targets.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

int Taken(const BlockChoice& choice) {
  return static_cast<int>(
      std::count(choice.skip.begin(), choice.skip.end(), 0));
}

TEST(ChooseBlocks, SinksBandAndTheBest) {
  // 20 blocks; one query looks at block 7, the other at block 3.
  std::vector<float> share(40, 0.0f);
  share[7] = 0.9f;
  share[0] = 0.1f;
  share[20 + 3] = 0.6f;
  share[20 + 19] = 0.4f;
  const BlockChoice choice = ChooseBlocks(share, 2);
  for (int b = 0; b < 20; ++b) {
    const bool wanted = b == 0 || b == 7 || b == 3 || b >= 20 - kBandBlocks;
    EXPECT_EQ(choice.skip[b], wanted ? 0 : 1) << b;
  }
  EXPECT_NEAR(choice.covered, 1, 1e-6);
}

// The report is what the chosen blocks hold, and it reaches the goal
// with no block to spare.
TEST(ChooseBlocks, CoversWhatItSays) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const int queries = 1 + random() % 9, blocks = 1 + random() % 60;
    std::vector<float> share;
    for (int q = 0; q < queries; ++q) {
      std::vector<float> row(blocks);
      for (float& s : row) s = std::exp(3.0f * (random() % 1000) / 1000.0f);
      const float sum = std::accumulate(row.begin(), row.end(), 0.0f);
      for (float s : row) share.push_back(s / sum);
    }
    const BlockChoice choice = ChooseBlocks(share, queries);
    double covered = 0;
    for (int q = 0; q < queries; ++q) {
      for (int b = 0; b < blocks; ++b) {
        if (choice.skip[b] == 0) covered += share[q * blocks + b] / queries;
      }
    }
    EXPECT_NEAR(choice.covered, covered, 1e-5);
    EXPECT_GE(choice.covered, kBlockCover - 1e-5);
    EXPECT_GE(Taken(choice), std::min(blocks, kBandBlocks + 1));
  }
  EXPECT_TRUE(ChooseBlocks({}, 3).skip.empty());
}

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.context_length = 4096;
  return options;
}

std::unique_ptr<Session> Read(Engine* engine, const char* kv,
                              const std::vector<int>& prompt) {
  auto session = MakeSession(engine, kv);
  EXPECT_TRUE(session->Read(prompt, {}).ok());
  return session;
}

// Short prompts have no block to leave out: the same bits as exact.
TEST(SparsePrefill, ShortPromptsAreExact) {
  auto engine = TinyEngine(Options(), 1, Compute::kAuto);
  for (int length : {1, 127, 500, (kBandBlocks + 2) * kKeyBlock - 1}) {
    const auto prompt = RandomTokens(length, 320, length);
    const auto exact = Read(engine.get(), "full", prompt);
    const auto sparse = Read(engine.get(), "full,prefill=sparse", prompt);
    ASSERT_EQ(Logits(*exact), Logits(*sparse)) << length;
    EXPECT_EQ(sparse->Report().prefill, "sparse");
    EXPECT_EQ(sparse->Report().prefill_mass, 1.0);
    EXPECT_FALSE(exact->Report().prefill_mass.has_value());
  }
}

TEST(SparsePrefill, LongPromptsAreNearAndSaySo) {
  auto engine = TinyEngine(Options(), 1, Compute::kF32);
  const auto prompt = RandomTokens(3000, 320, 5);
  const auto exact = Read(engine.get(), "full", prompt);
  const auto sparse = Read(engine.get(), "full,prefill=sparse", prompt);
  EXPECT_NE(Logits(*exact), Logits(*sparse));
  const auto mass = sparse->Report().prefill_mass;
  ASSERT_TRUE(mass.has_value());
  EXPECT_GE(*mass, kBlockCover);
  EXPECT_LT(*mass, 1);
  ExpectNear(Logits(*sparse), Logits(*exact), 0.3f);
  // Every entry is stored all the same.
  EXPECT_EQ(sparse->Report().entries_kept, exact->Report().entries_kept);
}

TEST(SparsePrefillThreaded, ThreadsDoNotShow) {
  auto one = TinyEngine(Options(), 1, Compute::kAuto);
  auto three = TinyEngine(Options(), 3, Compute::kAuto);
  const auto prompt = RandomTokens(2000, 320, 6);
  const char* kv = "snapkv,keep=0.3,prefill=sparse";
  EXPECT_EQ(Logits(*Read(one.get(), kv, prompt)),
            Logits(*Read(three.get(), kv, prompt)));
}

}  // namespace
}  // namespace pyramidkv
