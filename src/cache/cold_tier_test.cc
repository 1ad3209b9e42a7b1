#include "cache/cold_tier.h"

#include <random>
#include <vector>

#include "cache/cold_store.h"
#include "cache/testing/exact_index.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr int kDim = 16;

ColdTierOptions Options() {
  ColdTierOptions options;
  options.layers = 2;
  options.kv_heads = 2;
  options.format.head_dim = kDim;
  options.format.k = Codec::kF32;
  options.format.v = Codec::kF32;
  return options;
}

std::unique_ptr<ColdTier> Make(const ColdTierOptions& options) {
  auto tier = MakeColdStore(options, [&options](int, int) {
    return std::make_unique<ExactIndex>(options.format.head_dim);
  });
  EXPECT_TRUE(tier.ok()) << tier.status().message();
  return std::move(*tier);
}

std::vector<float> RandomRows(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(static_cast<size_t>(count) * kDim);
  for (float& x : rows) x = normal(random);
  return rows;
}

TEST(ColdTier, SelectsAllWithFetchOneAndALargeAlpha) {
  ColdTierOptions options = Options();
  options.alpha = 1e9;
  options.fetch = 1;
  const auto tier = Make(options);
  const std::vector<float> k = RandomRows(100, 1), v = RandomRows(100, 2);
  std::vector<int32_t> positions(100);
  for (int i = 0; i < 100; ++i) positions[i] = 3 * i;
  ASSERT_TRUE(
      tier->Append(1, 0, 100, k.data(), v.data(), kDim, positions.data()).ok());
  EXPECT_EQ(tier->length(1, 0), 100);
  EXPECT_EQ(tier->length(0, 0), 0);
  EXPECT_EQ(tier->positions(1, 0)[99], 297);
  tier->Select(1, 0, k.data(), 2, 0.25F);
  ColdView view;
  ASSERT_TRUE(tier->Fetch(1, 0, &view).ok());
  ASSERT_EQ(view.length, 100);
  ASSERT_EQ(view.pages.size(), 7u);
  std::vector<float> row(kDim), other(kDim);
  for (int i = 0; i < 100; ++i) {
    LoadEntry(options.format, view.pages[i / kBlockEntries], i % kBlockEntries,
              row.data(), other.data());
    ASSERT_TRUE(std::equal(row.begin(), row.end(), &k[i * kDim]));
    ASSERT_TRUE(std::equal(other.begin(), other.end(), &v[i * kDim]));
  }
  std::vector<float> all(k.size());
  ASSERT_TRUE(tier->Decode(1, 0, nullptr, all.data()).ok());
  EXPECT_EQ(all, v);
  tier->Clear();
  EXPECT_EQ(tier->entries(), 0);
  EXPECT_EQ(tier->stats().steps, 1);
}

}  // namespace
}  // namespace pyramidkv
