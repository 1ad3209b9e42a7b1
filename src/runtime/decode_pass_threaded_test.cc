// Rows of a pass whose sequences fail, one way or the other: the others never
// notice.

#include <algorithm>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/decode_pass.h"
#include "runtime/testing/tiny_forward.h"

namespace pyramidkv {
namespace {

constexpr int kContext = 512;
constexpr int kCold = 300;  // entries of a head in a cold tier

// One whose Fetch fails after so many that did not.
class FailingTier final : public ColdTier {
 public:
  FailingTier(std::unique_ptr<ColdTier> tier, int fetches)
      : tier_(std::move(tier)), left_(fetches) {}

  Status Fetch(int layer, int head, ColdView* view) override {
    if (left_-- <= 0) return Status::Runtime("the disk is gone");
    return tier_->Fetch(layer, head, view);
  }

  Status Append(int layer, int head, int count, const float* k, const float* v,
                size_t stride, const int32_t* positions) override {
    return tier_->Append(layer, head, count, k, v, stride, positions);
  }
  Status Settle() override { return tier_->Settle(); }
  int length(int layer, int head) const override {
    return tier_->length(layer, head);
  }
  std::span<const int32_t> positions(int layer, int head) const override {
    return tier_->positions(layer, head);
  }
  void Select(int layer, int head, const float* q, int group,
              float scale) override {
    tier_->Select(layer, head, q, group, scale);
  }
  Status Decode(int layer, int head, float* k, float* v) const override {
    return tier_->Decode(layer, head, k, v);
  }
  ColdHeadState Export(int layer, int head) const override {
    return tier_->Export(layer, head);
  }
  Status ShowBlocks(int layer, int head, const ShowPage& show) const override {
    return tier_->ShowBlocks(layer, head, show);
  }
  Status Import(int layer, int head, int position, ColdHeadState state,
                const ReadPage& read_page) override {
    return tier_->Import(layer, head, position, std::move(state), read_page);
  }
  uint64_t index_basis() const override { return tier_->index_basis(); }
  Result<std::unique_ptr<ColdTier>> Fork() override { return tier_->Fork(); }
  void Clear() override { tier_->Clear(); }
  int64_t bytes() const override { return tier_->bytes(); }
  int64_t index_bytes() const override { return tier_->index_bytes(); }
  int64_t file_bytes() const override { return tier_->file_bytes(); }
  int64_t entries() const override { return tier_->entries(); }
  ColdTierStats stats() const override { return tier_->stats(); }

 private:
  std::unique_ptr<ColdTier> tier_;
  int left_;
};

class DecodePassThreadedTest : public testing::Test, protected TinyForward {
 protected:
  static TinyGgufOptions Options() {
    TinyGgufOptions options;
    options.context_length = kContext;
    return options;
  }

  DecodePassThreadedTest() : TinyForward(Options()) {
    pass_ = std::make_unique<DecodePass>(context_);
  }

  std::unique_ptr<Sequence> NewSequence(PagePool* pages) {
    auto sequence = std::make_unique<Sequence>(
        pages, *model_, *ParseCacheSpec("full"), kContext, -1);
    EXPECT_TRUE(sequence->Open({}).ok());
    return sequence;
  }

  // With entries that every token fetches, in several views.
  std::unique_ptr<Sequence> NewColdSequence(int fetches) {
    auto sequence = NewSequence(&pages_);
    ColdTierOptions options;
    options.layers = params().layers;
    options.kv_heads = params().kv_heads;
    options.format = BlockFormat(sequence->cache.shape().format);
    options.alpha = 1000;
    options.fetch = 1;
    options.resident = 0.1;
    auto tier = std::move(*ColdTier::Create(options));
    const size_t d = params().head_dim;
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> k(kCold * d), v(kCold * d);
    std::vector<int32_t> positions(kCold);
    for (int i = 0; i < kCold; ++i) positions[i] = i;
    for (int l = 0; l < options.layers; ++l) {
      for (int h = 0; h < options.kv_heads; ++h) {
        for (auto* side : {&k, &v}) {
          for (float& x : *side) x = normal(random);
        }
        EXPECT_TRUE(
            tier->Append(l, h, kCold, k.data(), v.data(), d, positions.data())
                .ok());
      }
    }
    EXPECT_TRUE(tier->Settle().ok());
    sequence->cold = std::make_unique<FailingTier>(std::move(tier), fetches);
    sequence->position = kCold;
    return sequence;
  }

  // One token of each; logits by row.
  std::vector<std::vector<float>> Run(const std::vector<Sequence*>& sequences,
                                      int token, std::vector<Status>* status) {
    std::vector<DecodeRow> rows;
    for (Sequence* s : sequences) rows.push_back({s, token});
    const size_t width = params().vocabulary;
    std::vector<float> logits(rows.size() * width);
    status->assign(rows.size(), Status());
    pass_->Run(rows, logits.data(), *status);
    std::vector<std::vector<float>> all;
    for (size_t r = 0; r < rows.size(); ++r) {
      all.emplace_back(logits.begin() + r * width,
                       logits.begin() + (r + 1) * width);
    }
    return all;
  }

  // `failing` between two others, until it fails and after: those get what they
  // get alone, and it is `message`. Returns the tokens before it.
  int ExpectFailsAlone(Sequence* failing, const std::string& message) {
    auto before = NewSequence(&pages_), after = NewSequence(&pages_);
    auto alone = NewSequence(&pages_);
    int good = 0;
    std::vector<Status> status, of_alone;
    for (int token = 3; token < 13; ++token) {
      const auto got =
          Run({before.get(), failing, after.get()}, token, &status);
      const auto want = Run({alone.get()}, token, &of_alone);
      EXPECT_TRUE(status[0].ok());
      EXPECT_TRUE(status[2].ok());
      EXPECT_EQ(got[0], want[0]) << token;
      EXPECT_EQ(got[2], want[0]) << token;
      if (status[1].ok()) {
        ++good;
        continue;
      }
      EXPECT_EQ(status[1].code(), StatusCode::kRuntime);
      EXPECT_NE(status[1].message().find(message), std::string::npos)
          << status[1].message();
    }
    return good;
  }

  PagePool pages_;
  std::unique_ptr<DecodePass> pass_;
};

TEST_F(DecodePassThreadedTest, NoMemoryFailsAlone) {
  for (const int pages : {0, 1, 3}) {
    PagePool bounded(static_cast<int64_t>(kArenaBytes));
    auto failing = NewSequence(&bounded);
    // All pages of the one arena but so many.
    const size_t page_bytes = failing->cache.shape().format.page_bytes();
    std::vector<std::byte*> taken;
    while (std::byte* page = bounded.Allocate(page_bytes)) {
      taken.push_back(page);
    }
    ASSERT_GT(taken.size(), size_t{4});
    for (int i = 0; i < pages; ++i) {
      bounded.Release(taken.back());
      taken.pop_back();
    }
    EXPECT_EQ(ExpectFailsAlone(failing.get(), "out of memory"), 0) << pages;
    failing.reset();
    for (std::byte* page : taken) bounded.Release(page);
  }
}

TEST_F(DecodePassThreadedTest, AFetchThatFailsFailsAlone) {
  std::vector<int> good;
  for (const int fetches : {0, 1, 3, 7, 12, 40}) {
    auto failing = NewColdSequence(fetches);
    good.push_back(ExpectFailsAlone(failing.get(), "the disk is gone"));
  }
  EXPECT_EQ(good.front(), 0);
  EXPECT_GT(good.back(), 0);
  // Further views of a head are fetched, too: more than one for each.
  EXPECT_LT(good.back(), 40 / (params().layers * params().kv_heads));
  EXPECT_EQ(ExpectFailsAlone(
                NewColdSequence(std::numeric_limits<int>::max()).get(), ""),
            10);
}

}  // namespace
}  // namespace pyramidkv
