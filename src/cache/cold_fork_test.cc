// Forks of cold tiers: each goes on as if it were alone.

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "cache/testing/cold_rows.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kQueries = 2;

ColdTierOptions Options(double resident, IndexKind index) {
  ColdTierOptions options;
  options.layers = 1;
  options.kv_heads = 2;
  options.format.head_dim = 64;
  options.format.entries = kBlockEntries;
  options.format.k = options.format.v = Codec::kF16;
  options.index = index;
  options.resident = resident;
  options.fetch = 0.3;
  return options;
}

// All of a head, and what the queries get of it.
std::vector<float> Contents(ColdTier* tier, const PageFormat& format, int head,
                            const std::vector<float>& q) {
  const size_t d = format.head_dim;
  std::vector<float> all(tier->length(0, head) * 2 * d);
  EXPECT_TRUE(
      tier->Decode(0, head, all.data(), all.data() + all.size() / 2).ok());
  tier->Select(0, head, q.data(), kQueries, 0.125f);
  ColdView view;
  do {
    EXPECT_TRUE(tier->Fetch(0, head, &view).ok());
    for (int i = 0; i < view.length; ++i) {
      all.resize(all.size() + 2 * d);
      float* const at = all.data() + all.size() - 2 * d;
      LoadEntry(format, view.pages[i / kBlockEntries], i % kBlockEntries, at,
                at + d);
    }
  } while (!view.last());
  return all;
}

// A tier and a second one that was never forked and saw the same.
struct Twins {
  std::unique_ptr<ColdTier> tier;
  std::unique_ptr<ColdTier> alone;
};

class ColdFork : public testing::TestWithParam<std::pair<double, IndexKind>> {
 protected:
  ColdFork() : options_(Options(GetParam().first, GetParam().second)) {}

  std::unique_ptr<ColdTier> Make() const {
    auto tier = ColdTier::Create(options_);
    EXPECT_TRUE(tier.ok()) << tier.status().message();
    return std::move(*tier);
  }
  void Grow(Twins* twins, int count) {
    for (int head = 0; head < 2; ++head) {
      const uint32_t seed = random_();
      for (ColdTier* tier : {twins->tier.get(), twins->alone.get()}) {
        std::mt19937 random(seed);
        std::vector<ColdRow> rows(tier->length(0, head));
        ASSERT_TRUE(
            AppendRandom(tier, options_.format, 0, head, count, &random, &rows)
                .ok());
      }
    }
  }
  Twins Fork(Twins* of) {
    Twins fork;
    auto forked = of->tier->Fork();
    EXPECT_TRUE(forked.ok()) << forked.status().message();
    fork.tier = std::move(*forked);
    fork.alone = Copy(*of->alone);
    return fork;
  }
  // By way of what is stored, which shares nothing.
  std::unique_ptr<ColdTier> Copy(const ColdTier& from) const {
    auto copy = Make();
    for (int head = 0; head < 2; ++head) {
      std::vector<std::vector<std::byte>> pages;
      EXPECT_TRUE(from.ShowBlocks(0, head,
                                  [&](std::span<const std::byte> page) {
                                    pages.emplace_back(page.begin(),
                                                       page.end());
                                    return Status();
                                  })
                      .ok());
      size_t next = 0;
      EXPECT_TRUE(copy->Import(0, head, 1 << 20, from.Export(0, head),
                               [&](std::span<std::byte> page) {
                                 std::copy(pages[next].begin(),
                                           pages[next].end(), page.begin());
                                 ++next;
                                 return Status();
                               })
                      .ok());
    }
    return copy;
  }
  void Compare(const Twins& twins) {
    for (int head = 0; head < 2; ++head) {
      ASSERT_TRUE(std::ranges::equal(twins.tier->positions(0, head),
                                     twins.alone->positions(0, head)));
      const auto q =
          RandomFloats(size_t(kQueries) * options_.format.head_dim, &random_);
      EXPECT_EQ(Contents(twins.tier.get(), options_.format, head, q),
                Contents(twins.alone.get(), options_.format, head, q));
    }
  }

  ColdTierOptions options_;
  std::mt19937 random_{7};
};

// Forks of forks that all grow, read and end in random order.
TEST_P(ColdFork, EachGoesOnAlone) {
  std::vector<Twins> all(1);
  all[0] = {Make(), Make()};
  Grow(&all[0], 500);
  for (int step = 0; step < 120; ++step) {
    SCOPED_TRACE(step);
    const size_t at = random_() % all.size();
    switch (random_() % 5) {
      case 0:
        if (all.size() < 6) all.push_back(Fork(&all[at]));
        break;
      case 1:
        if (all.size() > 1) all.erase(all.begin() + at);
        break;
      case 2:
        Grow(&all[at], 1 + random_() % 60);
        break;
      case 3:
        ASSERT_TRUE(all[at].tier->Settle().ok());
        break;
      default:
        break;
    }
    Compare(all[random_() % all.size()]);
  }
  for (const Twins& twins : all) Compare(twins);
}

TEST_P(ColdFork, ClearsForItselfAlone) {
  Twins first = {Make(), Make()};
  Grow(&first, 400);
  Twins second = Fork(&first);
  first.tier->Clear();
  first.alone->Clear();
  Compare(second);
  Grow(&first, 300);
  Compare(first);
  Grow(&second, 100);
  Compare(second);
  Compare(first);
}

// A fork takes no memory and no disk for what it shares, and says so.
TEST_P(ColdFork, CostsNoBlocks) {
  Twins twins = {Make(), Make()};
  Grow(&twins, 20000);
  ASSERT_TRUE(twins.tier->Settle().ok());
  const std::unique_ptr<ColdTier> fork = std::move(*twins.tier->Fork());
  EXPECT_EQ(fork->file_bytes(), twins.tier->file_bytes());
  EXPECT_EQ(fork->index_bytes(), twins.alone->index_bytes());
  EXPECT_EQ(fork->entries(), twins.tier->entries());
  EXPECT_EQ(fork->stats().written_bytes, 0);
  EXPECT_EQ(fork->stats().steps, 0);
  // As both count what they read, they agree.
  EXPECT_NEAR(static_cast<double>(fork->bytes()),
              static_cast<double>(twins.tier->bytes()), 256 << 10);
}

INSTANTIATE_TEST_SUITE_P(Tiers, ColdFork,
                         testing::Values(std::pair{1.0, IndexKind::kSign},
                                         std::pair{0.5, IndexKind::kQuest},
                                         std::pair{0.1, IndexKind::kCluster},
                                         std::pair{0.2, IndexKind::kSign}));

}  // namespace
}  // namespace pyramidkv
