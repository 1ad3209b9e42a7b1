// `memory` bounds a cache whatever the model's windows are and however long an
// answer was asked for: the context ends it.

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "runtime/testing/tiny_engine.h"

namespace pyramidkv {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();
constexpr int kMaxKey = 1 << 30;  // of the integers in a spec
constexpr int kContext = 400;
constexpr int kPrompt = 150;

std::vector<TinyGgufOptions> Models() { return WindowModels(kContext, 200); }

// Fills the context; true if the spec is not refused.
bool StaysWithin(Engine* engine, const std::string& kv, int64_t limit,
                 int reserve) {
  auto session = MakeSession(engine, kv, reserve);
  const Status read = session->Read(RandomTokens(kPrompt, 320, 1), {});
  if (!read.ok()) {
    EXPECT_EQ(read.code(), StatusCode::kDoesNotFit) << read.message();
    return false;
  }
  int left = kContext - kPrompt;
  if (reserve >= 0) left = std::min(left, reserve);
  // evict=decode keeps the prompt until a token is generated.
  bool holds = kv.find("evict=decode") == kv.npos;
  for (;;) {
    if (holds) {
      EXPECT_LE(session->Report().bytes, limit) << kv << " -n " << reserve;
    }
    if (left == 0) return true;
    const int step = std::min(left, 9);
    EXPECT_TRUE(session->Force(RandomTokens(step, 320, left)).ok()) << kv;
    left -= step;
    holds = true;
  }
}

TEST(MemoryBoundTest, IsNeverExceeded) {
  int accepted = 0, refused = 0;
  for (const TinyGgufOptions& model : Models()) {
    const auto engine = TinyEngine(model, 2, Compute::kF32);
    for (const char* spec :
         {"snapkv", "snapkv-wide", "h2o", "streaming-llm", "snapkv,type=int8",
          "snapkv-wide,type=int4", "tova,type=int8", "snapkv,evict=both",
          "snapkv,evict=decode", "snapkv,evict=both,slack=1073741824",
          "pyramidkv,mode=reference", "snapkv,sliding_window=77",
          "snapkv,evict=both,positions=renumber",
          "snapkv,evict=both,sliding_window=180"}) {
      if (!engine->NewSession({std::string(spec) + ",memory=1GiB"}).ok()) {
        continue;  // asks for what windows hide
      }
      for (int kib : {20, 60, 90, 140}) {
        const std::string kv = fmt::format("{},memory={}KiB", spec, kib);
        SCOPED_TRACE(kv + " " + model.architecture);
        for (int reserve : {0, 30, kContext, kMaxInt}) {
          const bool fits =
              StaysWithin(engine.get(), kv, int64_t{kib} << 10, reserve);
          ++(fits ? accepted : refused);
        }
      }
    }
  }
  EXPECT_GT(accepted, 200);
  EXPECT_GT(refused, 50);
}

// More than the context has room for is as much as it has.
TEST(MemoryBoundTest, TheContextIsTheLimit) {
  for (const TinyGgufOptions& model : Models()) {
    const auto engine = TinyEngine(model, 2, Compute::kF32);
    for (const char* policy : {"snapkv", "snapkv,evict=both,slack=1000"}) {
      const std::string kv =
          fmt::format("{},memory={}KiB", policy, 50 * model.layers);
      std::vector<int64_t> entries;
      for (int reserve : {kContext - kPrompt, kContext, 1000000, kMaxInt}) {
        auto session = MakeSession(engine.get(), kv, reserve);
        const Status read = session->Read(RandomTokens(kPrompt, 320, 1), {});
        ASSERT_TRUE(read.ok()) << kv << " -n " << reserve << read.message();
        entries.push_back(session->Report().entries_kept);
      }
      EXPECT_EQ(entries, std::vector<int64_t>(4, entries[0])) << kv;
    }
  }
}

// Every whole number of a spec, and the sizes of a context.
TEST(MemoryBoundTest, LargestIntegersDoNotOverflow) {
  const auto engine = TinyEngine(Models()[0], 1, Compute::kF32);
  for (const char* key : {"tokens", "from", "min", "sinks", "recent", "slack",
                          "grace", "sliding_window"}) {
    for (const char* budget : {"keep=0.5", "tokens=50", "memory=200KiB"}) {
      const std::string given = budget;
      if (given.starts_with(key)) continue;
      const std::string kv = fmt::format("h2o,{},{}={}", budget, key, kMaxKey);
      auto session = engine->NewSession({kv, 0, 10});
      if (!session.ok()) {
        EXPECT_EQ(session.status().code(), StatusCode::kUsage);
        continue;
      }
      const Status read = (*session)->Read(RandomTokens(90, 320, 1), {});
      if (!read.ok()) {
        EXPECT_EQ(read.code(), StatusCode::kDoesNotFit) << kv;
        continue;
      }
      EXPECT_TRUE((*session)->Force(RandomTokens(9, 320, 2)).ok()) << kv;
      EXPECT_GE((*session)->Report().entries_kept, 1) << kv;
    }
  }
  for (int size : {(1 << 30) + 1, kMaxInt}) {
    const auto session = engine->NewSession({"full", size});
    EXPECT_EQ(session.status().code(), StatusCode::kUsage);
  }
  EXPECT_TRUE(engine->NewSession({"full", 1 << 30}).ok());
}

}  // namespace
}  // namespace pyramidkv
