// Sessions with a cold tier (remainder=offload).

#include <cmath>
#include <fstream>

#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kPrompt = 400;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 4;
  options.context_length = 2048;
  return options;
}

// Everything that was offloaded is fetched.
const char* const kAll = ",alpha=100,fetch=1";

double LargestDifference(const std::vector<float>& a,
                         const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::fabs(double{a[i]} - b[i]));
  }
  return largest;
}

// Logits after 40 forced tokens, a second turn, and 10 more tokens.
std::vector<float> Conversation(Engine* engine, const std::string& kv) {
  auto session = MakeSession(engine, kv);
  if (session == nullptr) return {};
  EXPECT_TRUE(session->Read(RandomTokens(kPrompt, 320, 1), {}).ok());
  std::vector<float> all = Logits(*session);
  const auto add = [&](const Result<std::vector<float>>& forced) {
    ASSERT_TRUE(forced.ok()) << kv << ": " << forced.status().message();
    all.insert(all.end(), forced->begin(), forced->end());
  };
  add(session->Force(RandomTokens(40, 320, 2)));
  EXPECT_TRUE(session->Read(RandomTokens(50, 320, 3), {}).ok());
  add(session->Force(RandomTokens(10, 320, 4)));
  return all;
}

// Fetching all is as good as if nothing had left.
TEST(Recall, OfEverythingIsTheFullCache) {
  auto engine = TinyEngine(Options(), 2, Compute::kF32);
  const auto full = Conversation(engine.get(), "full,type=f32");
  for (const char* policy :
       {"infinigen,tokens=64", "infinigen,tokens=64,resident=0.3",
        "infinigen,tokens=64,index=quest", "infinigen,tokens=64,index=cluster",
        "infinigen,keep=0.2", "snapkv,keep=0.25,remainder=offload",
        "snapkv-wide,keep=0.3,remainder=offload,resident=0.5",
        "snapkv,keep=0.3,heads=adaptive,evict=both,remainder=offload",
        "h2o,keep=0.3,remainder=offload",
        "streaming-llm,tokens=64,remainder=offload,prefill=streaming"}) {
    const std::string kv = std::string(policy) + kAll + ",type=f32";
    EXPECT_LT(LargestDifference(Conversation(engine.get(), kv), full), 2e-3)
        << kv;
  }
}

// The law of batch invariance; and where entries lie does not matter.
TEST(RecallThreaded, DoesNotDependOnThreadsOrResidence) {
  auto one = TinyEngine(Options(), 1, Compute::kAuto);
  auto three = TinyEngine(Options(), 3, Compute::kAuto);
  for (const char* policy :  // the last: more than memory takes at once
       {"infinigen,tokens=64,fetch=0.3", "snapkv,keep=0.25,remainder=offload",
        "infinigen,tokens=64,fetch=1,alpha=100"}) {
    const std::string kv(policy);
    const auto want = Conversation(one.get(), kv);
    EXPECT_EQ(Conversation(three.get(), kv), want) << kv;
    for (const char* where : {",resident=0.5", ",resident=0.1,victim=fifo",
                              ",resident=0.2", ",resident=0.3,victim=lru"}) {
      EXPECT_EQ(Conversation(three.get(), kv + where), want) << kv << where;
    }
  }
}

TEST(Recall, IsReported) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  auto session = MakeSession(engine.get(), "infinigen,tokens=64,resident=0.25");
  ASSERT_TRUE(session->Read(RandomTokens(kPrompt, 320, 1), {}).ok());
  KvReport report = session->Report();
  ASSERT_TRUE(report.tier.has_value());
  // Two of four layers are whole.
  EXPECT_EQ(report.tier->entries, 2 * 2 * (kPrompt - 64));
  EXPECT_EQ(report.entries_kept, 2 * 2 * (kPrompt + 64));
  EXPECT_FALSE(report.tier->fetch_share.has_value());
  EXPECT_GT(report.tier->file_bytes, 0);
  EXPECT_GT(report.tier->index_bytes, 0);
  EXPECT_GT(report.bytes, report.tier->bytes);

  ASSERT_TRUE(session->Force(RandomTokens(8, 320, 2)).ok());
  report = session->Report();
  EXPECT_GT(*report.tier->fetch_share, 0.0);
  EXPECT_LE(*report.tier->fetch_share, 0.25);
  EXPECT_LE(*report.tier->hit_rate, 1.0);
  EXPECT_FALSE(MakeSession(engine.get(), "full")->Report().tier.has_value());
}

// Memory holds its share whatever is selected, and where all passes through it
// some of it stays.
TEST(Recall, HoldsItsShareWhenAllIsFetched) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  auto session = MakeSession(
      engine.get(), "infinigen,tokens=64,resident=0.5,fetch=1,alpha=100");
  ASSERT_TRUE(session->Read(RandomTokens(1200, 320, 1), {}).ok());
  const int64_t before = session->Report().tier->bytes;
  ASSERT_TRUE(session->Force(RandomTokens(8, 320, 2)).ok());
  const KvTierReport tier = *session->Report().tier;
  EXPECT_EQ(*tier.fetch_share, 1.0);
  EXPECT_GT(*tier.hit_rate, 0.1);
  EXPECT_LT(*tier.hit_rate, 0.5);
  EXPECT_LT(tier.bytes, before + 100'000);
}

TEST(Recall, OffloadsWhatDecodingEvicts) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  auto session = MakeSession(engine.get(), "infinigen,tokens=64,slack=16", 400);
  ASSERT_TRUE(session->Read(RandomTokens(kPrompt, 320, 1), {}).ok());
  ASSERT_TRUE(session->Force(RandomTokens(160, 320, 2)).ok());
  const KvReport report = session->Report();
  EXPECT_EQ(report.entries_kept + report.tier->entries,
            4 * 2 * (kPrompt + 160));
  EXPECT_GE(report.tier->entries, 2 * 2 * (kPrompt + 160 - 64 - 16));
}

TEST(Recall, NamesADirectoryThatItCannotUse) {
  const std::string path = (std::filesystem::temp_directory_path() /
                            ("pyramidkv_cold_" + std::to_string(getpid())))
                               .string();
  ASSERT_TRUE(WriteTinyGguf(Options(), path));
  EngineOptions options;
  options.model_path = path;
  options.offload_directory = path + "/is/no/directory";
  auto engine = Engine::Load(options);
  std::filesystem::remove(path);
  ASSERT_TRUE(engine.ok());
  const auto session =
      (*engine)->NewSession({.kv = "infinigen,tokens=64,resident=0.5"});
  ASSERT_FALSE(session.ok());
  EXPECT_EQ(session.status().code(), StatusCode::kRuntime);
  EXPECT_NE(session.status().message().find(options.offload_directory),
            std::string::npos);
  // Nothing goes to a disk.
  EXPECT_TRUE((*engine)->NewSession({.kv = "infinigen,tokens=64"}).ok());
}

}  // namespace
}  // namespace pyramidkv
