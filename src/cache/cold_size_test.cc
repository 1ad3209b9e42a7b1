#include "cache/cold_size.h"

#include <random>
#include <vector>

#include "cache/testing/cold_rows.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kHeads = 4;
constexpr int64_t kMiB = int64_t{1} << 20;

// Against a real tier of the same size.
void Check(const ColdTierOptions& options, const std::vector<int>& entries) {
  const auto tier = ColdTier::Create(options);
  ASSERT_TRUE(tier.ok());
  std::mt19937 random(1);
  for (int h = 0; h < kHeads; ++h) {
    std::vector<ColdRow> rows;
    ASSERT_TRUE(AppendRandom(tier->get(), options.format, 0, h, entries[h],
                             &random, &rows)
                    .ok());
  }
  ASSERT_TRUE((*tier)->Settle().ok());
  const ColdTierSize size = SizeOfColdTier(options, entries);
  EXPECT_EQ(size.entries, (*tier)->entries());
  EXPECT_EQ(size.file_bytes, (*tier)->file_bytes());
  EXPECT_NEAR(double(size.index_bytes), double((*tier)->index_bytes()),
              0.03 * double(size.index_bytes) + 2048 * kHeads);
  EXPECT_LE(size.bytes, (*tier)->bytes() + 4096 * kHeads);
  EXPECT_GT(size.bytes, (*tier)->bytes() - 4 * kMiB);
}

TEST(SizeOfColdTier, IsWhatATierHolds) {
  const std::vector<float> skew(size_t{kHeads} * 64 * 64);
  for (const double resident : {0.0, 0.25, 1.0}) {
    for (const IndexKind index : {IndexKind::kSign, IndexKind::kSkew,
                                  IndexKind::kQuest, IndexKind::kCluster}) {
      // Each codec with some of them: a tier of this size takes a while.
      const Codec codec =
          index == IndexKind::kSign ? Codec::kInt8 : Codec::kF16;
      ColdTierOptions options;
      options.layers = 1;
      options.kv_heads = kHeads;
      options.format = {64, codec, codec};
      options.format.entries = kBlockEntries;
      options.index = index;
      options.skew = skew.data();
      options.resident = resident;
      Check(options, {20000, 3, 1, 777});
    }
  }
}

TEST(SizeOfColdTier, OfNothing) {
  ColdTierOptions options;
  options.format = {64, Codec::kF16, Codec::kF16};
  const std::vector<int> none = {0, 0};
  EXPECT_EQ(SizeOfColdTier(options, none).bytes, 0);
  EXPECT_EQ(SizeOfColdTier(options, none).file_bytes, 0);
}

}  // namespace
}  // namespace pyramidkv
