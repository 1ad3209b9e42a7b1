// Heads that are taken out of a cache and put into another one.

#include "cache/kv_cache_io.h"

#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "cache/kv_cache.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kTokens = 200;
const KvShape kShape = {1, 1, {16, Codec::kF16, Codec::kBf16}};

// A head with gaps and scores.
KvCache Filled(PagePool* pool) {
  KvCache cache(pool, kShape);
  std::mt19937 random(1);
  std::vector<float> k(kTokens * 16), v(kTokens * 16);
  for (auto* values : {&k, &v}) {
    for (float& x : *values) x = float(random() % 1000) / 500 - 1;
  }
  EXPECT_TRUE(cache.Append(0, 0, 0, kTokens, k.data(), v.data(), 16).ok());
  std::vector<int> kept;
  for (int i = 0; i < kTokens; i += 1 + i % 2) kept.push_back(i);
  kept.erase(kept.begin() + 3);
  EXPECT_TRUE(cache.Compact(0, 0, kept).ok());
  std::vector<float> scores(kept.begin(), kept.end());
  cache.SetScores(0, 0, scores);
  return cache;
}

// Copies the pages of `from`.
std::function<Status(std::span<std::byte>)> PagesOf(const KvCache& from) {
  return [&from, next = 0](std::span<std::byte> page) mutable -> Status {
    std::memcpy(page.data(), from.View(0, 0).pages[next++], page.size());
    return {};
  };
}

std::vector<float> Decoded(const KvCache& cache) {
  std::vector<float> kv(size_t(cache.length(0, 0)) * 32);
  cache.Decode(0, 0, kv.data(), kv.data() + kv.size() / 2);
  return kv;
}

TEST(KvCacheIoTest, ComesBackAsItWas) {
  PagePool pool;
  KvCache from = Filled(&pool);
  KvCache to(&pool, kShape);
  ASSERT_TRUE(
      to.ImportHead(0, 0, kTokens, from.ExportHead(0, 0), PagesOf(from)).ok());
  EXPECT_EQ(Decoded(from), Decoded(to));
  const HeadView a = from.View(0, 0), b = to.View(0, 0);
  for (int i = 0; i < a.length; ++i) {
    EXPECT_EQ(a.position(i), b.position(i));
    EXPECT_EQ(a.scores[i], b.scores[i]);
  }
  // What was evicted cannot come back there either.
  EXPECT_EQ(from.Truncate(kTokens - 1).code(), to.Truncate(kTokens - 1).code());
  EXPECT_NE(to.Truncate(kTokens - 1).code(), StatusCode::kOk);
}

TEST(KvCacheIoTest, AReadThatFailsChangesNothing) {
  PagePool pool;
  KvCache from = Filled(&pool), to = Filled(&pool);
  const auto before = Decoded(to);
  const int64_t live = pool.live_bytes();
  int pages = 0;
  const Status status = to.ImportHead(
      0, 0, kTokens, from.ExportHead(0, 0), [&](std::span<std::byte>) {
        return ++pages < 2 ? Status() : Status::Runtime("no more");
      });
  EXPECT_EQ(status.message(), "no more");
  EXPECT_EQ(Decoded(to), before);
  EXPECT_EQ(pool.live_bytes(), live);
}

TEST(KvCacheIoTest, StatesThatCannotBeAreRefused) {
  PagePool pool;
  const HeadState sound = Filled(&pool).ExportHead(0, 0);
  EXPECT_TRUE(CheckHeadState(sound, kShape.format, false, kTokens).ok());
  const std::vector<std::function<void(HeadState*)>> wrong = {
      [](HeadState* s) { s->length = -1; },
      [](HeadState* s) { s->length = kTokens + 1; },
      [](HeadState* s) { s->seen = kTokens + 1; },
      [](HeadState* s) { s->seen = -1; },
      [](HeadState* s) { s->base = -1; },
      [](HeadState* s) { s->positions.pop_back(); },
      [](HeadState* s) { s->positions[1] = s->positions[0]; },
      [](HeadState* s) { s->positions[0] = -1; },
      [](HeadState* s) { s->positions.back() = kTokens; },
      [](HeadState* s) {
        s->positions.clear();
        s->base = kTokens - s->length + 1;
      },
      [](HeadState* s) { s->scores.push_back(0); },
      [](HeadState* s) { s->bias.assign(1, 0.0f); },
      [](HeadState* s) { s->rope.assign(s->length, kTokens); },
      [](HeadState* s) { s->rope.assign(s->length, -1); },
      [](HeadState* s) { s->evicted_from = -1; },
      [](HeadState* s) { s->evicted_before = kTokens + 1; }};
  for (size_t i = 0; i < wrong.size(); ++i) {
    HeadState state = sound;
    wrong[i](&state);
    EXPECT_EQ(CheckHeadState(state, kShape.format, false, kTokens).code(),
              StatusCode::kModel)
        << i;
  }
}

}  // namespace
}  // namespace pyramidkv
