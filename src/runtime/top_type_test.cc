// The best entries of a quantised cache, held finer.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kPrompt = 500;

TinyGgufOptions Options() {
  TinyGgufOptions options;
  options.layers = 2;
  options.kv_heads = 2;
  options.context_length = 2048;
  return options;
}

// Logits of tokens after a prompt, then after a second one.
std::vector<float> Answers(Engine* engine, const std::string& kv) {
  auto session = MakeSession(engine, kv);
  EXPECT_TRUE(session->Read(RandomTokens(kPrompt, 320, 1), {}).ok()) << kv;
  std::vector<float> all = *session->Force(RandomTokens(200, 320, 2));
  EXPECT_TRUE(session->Read(RandomTokens(150, 320, 3), {}).ok());
  const auto more = *session->Force(RandomTokens(20, 320, 4));
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] - b[i], 2);
  return std::sqrt(sum / double(a.size()));
}

// All of them in f16 is an f16 cache, but for what is generated later; more of
// them is nearer.
TEST(TopType, MoreOfThemAreNearerToTheFinerType) {
  auto engine = TinyEngine(Options(), 2, Compute::kF32);
  for (const std::string kv : {"snapkv,keep=0.6,heads=adaptive",
                               "snapkv-wide,keep=0.6", "keydiff,keep=1"}) {
    const auto want = Answers(engine.get(), kv);
    const std::string coarse = kv + ",type_k=int4,type_v=int2";
    const std::string top = coarse + ",top_type=f16,top=";
    const double none = Distance(Answers(engine.get(), coarse), want);
    const double half = Distance(Answers(engine.get(), top + "0.5"), want);
    const double all = Distance(Answers(engine.get(), top + "1"), want);
    EXPECT_LT(half, none) << kv;
    EXPECT_LT(all, 0.7 * none) << kv;
    EXPECT_LT(all, half) << kv;
  }
}

TEST(TopType, BytesAreWithinMemoryAndReported) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  const std::string kv = "snapkv,keep=0.5,type=int4";
  std::vector<int64_t> bytes;
  for (const char* more : {"", ",top_type=int8", ",top_type=f16,top=1"}) {
    auto session = MakeSession(engine.get(), kv + more);
    ASSERT_TRUE(session->Read(RandomTokens(kPrompt, 320, 1), {}).ok());
    bytes.push_back(session->Report().bytes);
  }
  EXPECT_LT(bytes[0], bytes[1]);
  EXPECT_LT(bytes[1], bytes[2]);
  for (const char* policy : {"snapkv", "snapkv-wide"}) {
    const std::string bounded = std::string(policy) +
                                ",memory=160KiB,type_k=int4,type_v=int2,"
                                "top_type=f16,top=0.3";
    auto session = MakeSession(engine.get(), bounded);
    ASSERT_TRUE(session->Read(RandomTokens(1500, 320, 1), {}).ok());
    EXPECT_LE(session->Report().bytes, 160 * 1024) << policy;
    EXPECT_GE(session->Report().bytes, 110 * 1024) << policy;
  }
}

// Whatever else moves entries, or shares their scales.
TEST(TopType, GoesWithOtherScalesAndRemainders) {
  auto engine = TinyEngine(Options(), 2, Compute::kF32);
  for (const std::string more :
       {",type=int4,scale=tensor", ",type=int4,scale=channel",
        ",type=int4,remainder=cluster",
        ",type=int4,evict=both,remainder=cluster",
        ",type=int4,remainder=offload,fetch=0.5",
        ",type_v=int4,positions=renumber,evict=both"}) {
    const std::string kv = "snapkv,keep=0.6" + more;
    std::string exact = kv;
    for (const char* coarse :
         {",type=int4", ",type_v=int4", ",scale=tensor", ",scale=channel"}) {
      const size_t at = exact.find(coarse);
      if (at != exact.npos) exact.erase(at, std::string(coarse).size());
    }
    const auto want = Answers(engine.get(), exact);
    const double none = Distance(Answers(engine.get(), kv), want);
    const double all =
        Distance(Answers(engine.get(), kv + ",top_type=f16,top=1"), want);
    EXPECT_LT(all, none) << kv;
  }
}

// The best ones stay when tokens are generated, and are no more than were
// counted.
TEST(TopType, MemoryHoldsWhileDecodingEvicts) {
  auto engine = TinyEngine(Options(), 2, Compute::kAuto);
  for (const char* policy : {"h2o,recent=8", "snapkv"}) {
    const std::string bounded = std::string(policy) +
                                ",memory=160KiB,evict=decode,type=int4,"
                                "top_type=f16,top=0.3";
    auto session = MakeSession(engine.get(), bounded);
    ASSERT_TRUE(session->Read(RandomTokens(1500, 320, 1), {}).ok());
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(session->Force(RandomTokens(60, 320, 2 + i)).ok());
      EXPECT_LE(session->Report().bytes, 160 * 1024) << policy;
    }
  }
}

}  // namespace
}  // namespace pyramidkv
