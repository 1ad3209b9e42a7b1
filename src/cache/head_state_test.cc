// Heads that are taken out of a cache and put into another one.

#include "cache/head_state.h"

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

HeadState StateOf(const KvCache& cache) { return cache.head(0, 0).Export(); }

std::vector<float> Decoded(const KvCache& cache) {
  std::vector<float> kv(size_t(cache.length(0, 0)) * 32);
  cache.Decode(0, 0, kv.data(), kv.data() + kv.size() / 2);
  return kv;
}

TEST(HeadStateTest, ComesBackAsItWas) {
  PagePool pool;
  KvCache from = Filled(&pool);
  KvCache to(&pool, kShape);
  ASSERT_TRUE(to.head(0, 0).Import(kTokens, StateOf(from), PagesOf(from)).ok());
  EXPECT_EQ(Decoded(from), Decoded(to));
  const HeadView a = from.View(0, 0), b = to.View(0, 0);
  for (int i = 0; i < a.length; ++i) {
    EXPECT_EQ(a.position(i), b.position(i));
    EXPECT_EQ(a.scores[i], b.scores[i]);
  }
}

TEST(HeadStateTest, AReadThatFailsChangesNothing) {
  PagePool pool;
  KvCache from = Filled(&pool), to = Filled(&pool);
  const auto before = Decoded(to);
  const int64_t live = pool.live_bytes();
  int pages = 0;
  const Status status =
      to.head(0, 0).Import(kTokens, StateOf(from), [&](std::span<std::byte>) {
        return ++pages < 2 ? Status() : Status::Runtime("no more");
      });
  EXPECT_EQ(status.message(), "no more");
  EXPECT_EQ(Decoded(to), before);
  EXPECT_EQ(pool.live_bytes(), live);
}

TEST(HeadStateTest, StatesThatCannotBeAreRefused) {
  PagePool pool;
  const HeadState sound = StateOf(Filled(&pool));
  EXPECT_TRUE(CheckHeadState(sound, kShape.format, kTokens).ok());
  const std::vector<std::function<void(HeadState*)>> wrong = {
      [](HeadState* s) { s->sides.length = -1; },
      [](HeadState* s) { s->sides.length = kTokens + 1; },
      [](HeadState* s) { s->seen = kTokens + 1; },
      [](HeadState* s) { s->seen = -1; },
      [](HeadState* s) { s->sides.base = -1; },
      [](HeadState* s) { s->sides.positions.pop_back(); },
      [](HeadState* s) { s->sides.positions[1] = s->sides.positions[0]; },
      [](HeadState* s) { s->sides.positions[0] = -1; },
      [](HeadState* s) { s->sides.positions.back() = kTokens; },
      [](HeadState* s) {
        s->sides.positions.clear();
        s->sides.base = kTokens - s->sides.length + 1;
      },
      [](HeadState* s) { s->sides.scores.push_back(0); },
      [](HeadState* s) { s->sides.bias.assign(1, 0.0f); },
      [](HeadState* s) { s->sides.rope.assign(s->sides.length, kTokens); },
      [](HeadState* s) { s->sides.rope.assign(s->sides.length, -1); },
      [](HeadState* s) { s->recent_begin = s->sides.length - 1; },
      [](HeadState* s) { s->recent_begin = s->sides.length + 1; },
      [](HeadState* s) { s->coded = 1; },
      [](HeadState* s) { s->top = {20}; },
      [](HeadState* s) { s->tensor_scales[1] = -1; }};
  for (size_t i = 0; i < wrong.size(); ++i) {
    HeadState state = sound;
    wrong[i](&state);
    EXPECT_EQ(CheckHeadState(state, kShape.format, kTokens).code(),
              StatusCode::kModel)
        << i;
  }
}

}  // namespace
}  // namespace pyramidkv
