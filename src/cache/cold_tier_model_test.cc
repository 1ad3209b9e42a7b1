// The cold tier against a dumb model: random operations on tiers of all kinds.

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "cache/cold_residents.h"
#include "cache/testing/cold_rows.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kLayers = 2;
constexpr int kHeads = 2;
constexpr float kScale = 0.25F;

struct Case {
  Codec k, v;
  int head_dim;
  double resident, fetch, alpha;
  Victim victim;
};

// A head: its entries, its keys before rounding (in an index of its own), and
// which blocks should be in memory.
struct ModelHead {
  explicit ModelHead(const Case& c) : index(c.head_dim), pool(c.victim) {}
  std::vector<ColdRow> rows;
  ExactIndex index;
  ColdResidents pool;
  uint32_t first_step = 0;  // of the pool, since the last Select
  int blocks() const { return static_cast<int>(rows.size()) / kBlockEntries; }
};

class ColdTierModel : public ::testing::TestWithParam<Case> {
 protected:
  ColdTierModel() {
    const Case& c = GetParam();
    options_.layers = kLayers;
    options_.kv_heads = kHeads;
    options_.format.head_dim = c.head_dim;
    options_.format.entries = kBlockEntries;
    options_.format.k = c.k;
    options_.format.v = c.v;
    options_.resident = c.resident;
    options_.fetch = c.fetch;
    options_.alpha = c.alpha;
    options_.victim = c.victim;
    tier_ = MakeExactTier(options_);
    Forget();
  }

  void Forget() {
    heads_.clear();
    for (int i = 0; i < kLayers * kHeads; ++i) heads_.emplace_back(GetParam());
  }
  int Random(int n) { return static_cast<int>(random_() % n); }
  int Capacity(int blocks) const {
    return static_cast<int>(
        std::ceil(options_.resident * blocks * (1 - 1e-12)));
  }

  void Append() {
    const int i = Random(kLayers * kHeads);
    ModelHead& head = heads_[i];
    const int count = 1 + (Random(4) == 0 ? Random(2000) : Random(20));
    const int before = head.blocks();
    const size_t d = options_.format.head_dim;
    std::vector<float> k = RandomFloats(count * d, &random_);
    const std::vector<float> v = RandomFloats(count * d, &random_);
    const std::vector<int32_t> positions(count, 7 * i);
    ASSERT_TRUE(tier_
                    ->Append(i / kHeads, i % kHeads, count, k.data(), v.data(),
                             d, positions.data())
                    .ok());
    for (int r = 0; r < count; ++r) {
      head.rows.push_back(Rounded(options_.format, &k[r * d], &v[r * d]));
    }
    head.index.Append(k.data(), count, d);
    const int added = head.blocks() - before;
    const int kept = std::min(added, Capacity(head.blocks()));
    std::vector<std::byte*> pages;
    head.pool.Evict(head.pool.size() + kept - Capacity(head.blocks()), 0,
                    &pages);
    for (int b = head.blocks() - kept; b < head.blocks(); ++b) {
      head.pool.Add(b, &page_);
    }
  }

  // The blocks to select, as a user would say it.
  std::vector<int> Wanted(const ModelHead& head, const float* q, int group) {
    const int all = head.index.blocks();
    std::vector<float> best(static_cast<size_t>(group) * all);
    head.index.Score(q, group, nullptr, best.data());
    std::vector<std::pair<float, int>> near;
    for (int b = 0; b < head.blocks(); ++b) {
      float distance = -INFINITY, share = 0;
      for (int g = 0; g < group; ++g) {
        const float* const row = &best[static_cast<size_t>(g) * all];
        const float top = *std::max_element(row, row + all);
        distance = std::max(distance, row[b] - top);
        float sum = 0;
        for (int x = 0; x < head.blocks(); ++x) {
          sum += std::exp((row[x] - top) * kScale);
        }
        if (sum > 0) share += std::exp((row[b] - top) * kScale) / sum;
      }
      if (distance * double{kScale} >= -options_.alpha) {
        near.emplace_back(-share, b);
      }
    }
    std::sort(near.begin(), near.end());
    const double most = std::floor(options_.fetch * head.blocks() + 1e-9);
    if (near.size() > most) near.resize(std::max<size_t>(1, size_t(most)));
    std::vector<int> wanted;
    for (const auto& [share, block] : near) wanted.push_back(block);
    std::sort(wanted.begin(), wanted.end());
    return wanted;
  }

  void Select(bool fetch) {
    const int i = Random(kLayers * kHeads);
    ModelHead& head = heads_[i];
    const int group = 1 + Random(3);
    const std::vector<float> q =
        RandomFloats(size_t(group) * options_.format.head_dim, &random_);
    tier_->Select(i / kHeads, i % kHeads, q.data(), group, kScale);
    const std::vector<int> wanted = Wanted(head, q.data(), group);
    const int room =
        std::max(Capacity(head.blocks()),
                 std::min(kColdPartBlocks, static_cast<int>(wanted.size())));
    head.first_step = head.pool.next_step();
    int end = Round(wanted, 0, room, 1, &head);
    if (!fetch) return;
    for (int begin = 0;;) {
      const int next = begin;
      begin = end;
      const bool last = begin == static_cast<int>(wanted.size());
      // The next round is read meanwhile, if memory holds two.
      const bool ahead = !last && room >= 2 * kColdPartBlocks;
      if (ahead) end = Round(wanted, begin, room, 2, &head);
      Check(i, wanted, next, begin);
      if (last || HasFatalFailure()) return;
      if (!ahead) end = Round(wanted, begin, room, 1, &head);
    }
  }

  // Puts the round of `wanted` from `begin` on into memory; where it ends.
  int Round(const std::vector<int>& wanted, int begin, int room, int spared,
            ModelHead* head) {
    int end = static_cast<int>(wanted.size());
    if (end > room) {
      int missing = 0, blocks = 0;
      for (int b = begin; b < static_cast<int>(wanted.size()); ++b) {
        missing += head->pool.page(wanted[b]) == nullptr ? 1 : 0;
        ++blocks;
        if (blocks > std::max(room / 2, kColdPartBlocks) ||
            missing > std::max(room / 4, kColdPartBlocks)) {
          end = b / kColdPartBlocks * kColdPartBlocks;
          break;
        }
      }
    }
    EXPECT_GT(end, wanted.empty() ? -1 : begin);
    const std::vector<int32_t> round(wanted.begin() + begin,
                                     wanted.begin() + end);
    std::vector<int32_t> missing;
    head->pool.Use(round, &missing);
    read_blocks_ += missing.size();
    std::vector<std::byte*> pages;
    const int more = static_cast<int>(missing.size()) - room;
    head->pool.EvictPassed(head->pool.size() + more, head->first_step, spared,
                           &pages);
    head->pool.Evict(head->pool.size() + more, spared, &pages);
    for (const int32_t b : missing) head->pool.AddUsed(b, &page_);
    EXPECT_LE(head->pool.size(), room);
    return end;
  }

  // The next view has the blocks [begin, end) of `wanted`, and the tail behind
  // the last one.
  void Check(int i, const std::vector<int>& wanted, int begin, int end) {
    const ModelHead& head = heads_[i];
    ColdView view;
    ASSERT_TRUE(tier_->Fetch(i / kHeads, i % kHeads, &view).ok());
    ASSERT_EQ(tier_->stats().read_blocks, read_blocks_);
    const int all = static_cast<int>(wanted.size());
    const int tail = static_cast<int>(head.rows.size()) % kBlockEntries;
    ASSERT_EQ(view.first, begin * kBlockEntries);
    ASSERT_EQ(view.selected, all * kBlockEntries + tail);
    ASSERT_EQ(view.last(), end == all);
    const int pages = end - begin + (end == all && tail > 0 ? 1 : 0);
    ASSERT_EQ(static_cast<int>(view.pages.size()), pages);
    ASSERT_EQ(view.length,
              (end - begin) * kBlockEntries + (end == all ? tail : 0));
    for (int at = 0; at < view.length; ++at) {
      const int b = begin + at / kBlockEntries;
      const int block = b < all ? wanted[b] : head.blocks();
      ASSERT_TRUE(
          ViewHas(options_.format, view, at,
                  head.rows[block * kBlockEntries + at % kBlockEntries]));
    }
  }

  void Decode() {
    const int i = Random(kLayers * kHeads);
    const size_t d = options_.format.head_dim;
    std::vector<float> k(heads_[i].rows.size() * d), v(k.size());
    const bool no_k = Random(4) == 0;
    ASSERT_TRUE(tier_
                    ->Decode(i / kHeads, i % kHeads, no_k ? nullptr : k.data(),
                             v.data())
                    .ok());
    for (size_t r = 0; r < heads_[i].rows.size(); ++r) {
      const ColdRow& row = heads_[i].rows[r];
      ASSERT_TRUE(std::equal(row.v.begin(), row.v.end(), &v[r * d]));
      if (no_k) continue;
      ASSERT_TRUE(std::equal(row.k.begin(), row.k.end(), &k[r * d]));
    }
    ASSERT_EQ(tier_->length(i / kHeads, i % kHeads),
              static_cast<int>(heads_[i].rows.size()));
  }

  std::mt19937 random_{41};
  ColdTierOptions options_;
  std::unique_ptr<ColdTier> tier_;
  std::vector<ModelHead> heads_;
  int64_t read_blocks_ = 0;
  std::byte page_{};
};

TEST_P(ColdTierModel, DoesWhatADumbModelDoes) {
  for (int step = 0; step < 250; ++step) {
    SCOPED_TRACE(step);
    const int dice = Random(100);
    if (dice < 25) {
      Append();
    } else if (dice < 85) {
      Select(/*fetch=*/dice < 75);
    } else if (dice < 97) {
      Decode();
    } else if (dice < 98) {
      tier_->Clear();
      Forget();
    } else {
      ASSERT_TRUE(tier_->Settle().ok());
    }
    if (HasFatalFailure()) return;
  }
  if (options_.resident >= 1) {
    EXPECT_EQ(tier_->file_bytes(), 0);
    EXPECT_EQ(tier_->stats().read_bytes, 0);
    EXPECT_EQ(tier_->stats().written_bytes, 0);
  }
}

constexpr Case kCases[] = {
    {Codec::kF16, Codec::kF16, 64, 0.2, 0.2, 2, Victim::kCounter},
    {Codec::kF16, Codec::kF16, 64, 0.2, 0.1, 2, Victim::kLru},
    {Codec::kF16, Codec::kF16, 64, 0.2, 0.1, 2, Victim::kFifo},
    {Codec::kF16, Codec::kF16, 64, 1, 0.3, 2, Victim::kCounter},
    {Codec::kF32, Codec::kF32, 16, 0, 1, 1e9, Victim::kCounter},
    {Codec::kBf16, Codec::kBf16, 8, 0.5, 1, 0.5, Victim::kCounter},
    {Codec::kF16, Codec::kF16, 64, 0.3, 1, 1e9, Victim::kLru},
    {Codec::kBf16, Codec::kBf16, 16, 0.7, 0.9, 1e9, Victim::kFifo},
    {Codec::kInt8, Codec::kInt8, 64, 0.1, 0.3, 1e9, Victim::kCounter},
    {Codec::kInt4, Codec::kInt2, 32, 0.9, 0.02, 1, Victim::kLru},
};
INSTANTIATE_TEST_SUITE_P(All, ColdTierModel, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace pyramidkv
