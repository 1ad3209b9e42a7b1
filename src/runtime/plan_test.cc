#include "pyramidkv/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

namespace pyramidkv {
namespace {

using testing::HasSubstr;

PlanDims Dims(int layers, int kv_heads, int head_dim, int tokens) {
  PlanDims dims;
  dims.layers = layers;
  dims.kv_heads = kv_heads;
  dims.head_dim = head_dim;
  dims.tokens = tokens;
  return dims;
}

const PlanDims kLlama70b = Dims(80, 64, 128, 8192);
const PlanDims kSmall = Dims(30, 3, 64, 2048);

CachePlan Plan(std::string_view spec, const PlanDims& dims) {
  const Result<CachePlan> plan = PlanCache(spec, dims);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : CachePlan{};
}

TEST(PlanCacheTest, SeventyBillionParameters) {
  const CachePlan full = Plan("full", kLlama70b);
  EXPECT_EQ(full.bytes, 21'474'836'480);
  EXPECT_EQ(full.bytes_full, 21'474'836'480);
  EXPECT_EQ(full.saved, 0);
  PlanDims grouped = kLlama70b;
  grouped.kv_heads = 8;
  EXPECT_EQ(Plan("full", grouped).bytes, 2'684'354'560);
  grouped.sequences = 4;
  EXPECT_EQ(Plan("full", grouped).bytes, 4 * 2'684'354'560);
}

TEST(PlanCacheTest, BytesAreWholePagesAndPositions) {
  const PlanDims dims = Dims(2, 3, 64, 1000);
  // 100 entries: two pages of 64 x 64 x (2 + 2) bytes and 64 positions.
  const int64_t head = 2 * (64 * 64 * 4 + 64 * 4);
  const CachePlan plan = Plan("snapkv,tokens=100", dims);
  ASSERT_EQ(plan.layers.size(), 2u);
  EXPECT_EQ(plan.layers[1].layer, 1);
  EXPECT_EQ(plan.layers[1].budget, 100);
  EXPECT_EQ(plan.layers[1].bytes, 3 * head);
  EXPECT_EQ(plan.bytes, 6 * head);
  EXPECT_EQ(plan.bytes_full, 2LL * 2 * 3 * 64 * 1000 * 2);
  EXPECT_DOUBLE_EQ(plan.saved, 1 - 6.0 * head / 1536000);
  // 16 pages and no positions where nothing was lost; f32 doubles K.
  EXPECT_EQ(Plan("full,type_k=f32", dims).bytes, 6LL * 16 * 64 * 64 * 6);
  EXPECT_EQ(Plan("snapkv,keep=1", dims).bytes, 6LL * 16 * 64 * 64 * 4);
}

TEST(PlanCacheTest, Pyramid) {
  const CachePlan plan = Plan("pyramidkv,keep=0.30", kSmall);
  EXPECT_EQ(plan.spec, "pyramidkv,keep=0.3");
  int64_t sum = 0;
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    sum += *plan.layers[l].budget;
    if (l > 0) {
      EXPECT_LE(*plan.layers[l].budget, *plan.layers[l - 1].budget);
    }
  }
  EXPECT_EQ(sum, 18432);  // 0.3 x 30 x 2048
  EXPECT_GT(plan.saved, 0.65);
}

TEST(PlanCacheTest, SomeWindowLayersAreRings) {
  PlanDims dims = Dims(3, 3, 64, 2048);
  dims.sliding_window = 500;
  dims.window_layers = {true, false, true};
  const CachePlan plan = Plan("snapkv,keep=0.25", dims);
  EXPECT_FALSE(plan.layers[0].budget.has_value());
  EXPECT_EQ(plan.layers[1].budget, 512);
  EXPECT_EQ(plan.layers[0].bytes, 3LL * 8 * 64 * 64 * 4);
  EXPECT_EQ(plan.bytes_full, 2LL * 3 * 64 * 2 * (500 + 2048 + 500));
  dims.window_layers = {true};
  EXPECT_EQ(PlanCache("full", dims).status().code(), StatusCode::kUsage);
}

TEST(PlanCacheTest, AWindowInEveryLayerBoundsTheBudgets) {
  PlanDims dims = Dims(2, 3, 64, 8000);
  const CachePlan plan = Plan("mistral", dims);  // 4,096 of its own
  EXPECT_EQ(plan.layers[0].budget, 4096);
  EXPECT_EQ(plan.layers[1].budget, 1638);
  EXPECT_EQ(plan.bytes_full, Plan("full,sliding_window=4096", dims).bytes);
  dims.sliding_window = 500;  // the model's
  EXPECT_EQ(Plan("snapkv,keep=0.5", dims).layers[0].budget, 250);
  EXPECT_EQ(Plan("mistral", dims).layers[0].budget, 500);  // the narrower
  EXPECT_EQ(Plan("mistral,sliding_window=0", dims).layers[0].budget, 500);
  EXPECT_EQ(Plan("full", dims).bytes, 6LL * 8 * 64 * 64 * 4);
}

TEST(PlanCacheTest, MemoryIsNotExceeded) {
  for (const char* policy : {"snapkv", "pyramidkv", "snapkv-wide", "llama",
                             "pyramidkv,mode=reference"}) {
    const CachePlan plan = Plan(std::string(policy) + ",memory=16MiB", kSmall);
    EXPECT_LE(plan.bytes, 16 << 20) << policy;
    EXPECT_GT(plan.bytes, 12 << 20) << policy;
  }
}

TEST(PlanCacheTest, GlobalSplitSaysWhatItMayTake) {
  const CachePlan plan = Plan("snapkv-wide,keep=0.3", kSmall);
  ASSERT_EQ(plan.warnings.size(), 1u);
  EXPECT_THAT(plan.warnings[0], HasSubstr("heads=global"));
}

TEST(PlanCacheTest, CountsTheColdTier) {
  EXPECT_FALSE(Plan("snapkv,keep=0.25", kSmall).tier.has_value());
  EXPECT_FALSE(Plan("infinigen,keep=1", kSmall).tier.has_value());
  // 28 of 30 layers keep 64 of 2,048 entries of three heads.
  const int64_t heads = 28 * 3, entries = 2048 - 64, block = 16 * 64 * 4;
  const CachePlan memory = Plan("infinigen,tokens=64", kSmall);
  ASSERT_TRUE(memory.tier.has_value());
  EXPECT_EQ(memory.layers[1].budget, 2048);
  EXPECT_EQ(memory.layers[1].bytes, Plan("full", kSmall).layers[1].bytes);
  EXPECT_EQ(memory.layers[2].budget, 64);
  EXPECT_EQ(memory.tier->entries, heads * entries);
  EXPECT_EQ(memory.tier->index_bytes, heads * entries * 10);
  EXPECT_EQ(memory.tier->file_bytes, 0);
  // Blocks, one begun, the index and positions.
  EXPECT_EQ(memory.tier->bytes, heads * (125 * block + entries * 14));
  int64_t hot = 0;
  for (const PlanLayer& layer : memory.layers) hot += layer.bytes;
  EXPECT_EQ(memory.bytes, hot + memory.tier->bytes);
  const CachePlan disk =
      Plan("infinigen,tokens=64,resident=0.25,index=skew", kSmall);
  EXPECT_EQ(disk.tier->file_bytes, 48 << 20);
  EXPECT_EQ(disk.tier->index_bytes, heads * entries * 12);
  EXPECT_EQ(disk.tier->bytes, heads * (32 * block + entries * 16));
  EXPECT_GT(disk.saved, 0.6);
  // The same entries, wherever they are.
  const CachePlan half = Plan("snapkv,keep=0.5,remainder=offload", kSmall);
  EXPECT_EQ(half.tier->entries, 90 * 1024);
  PlanDims four = kSmall;
  four.sequences = 4;
  EXPECT_EQ(Plan("infinigen,tokens=64", four).tier->bytes,
            4 * memory.tier->bytes);
}

TEST(PlanCacheTest, Errors) {
  EXPECT_EQ(PlanCache("snapkv", kSmall).status().code(), StatusCode::kUsage);
  EXPECT_EQ(PlanCache("snapkv,memory=1MiB", kSmall).status().code(),
            StatusCode::kDoesNotFit);
  PlanDims none = kSmall;
  none.layers = 0;
  EXPECT_THAT(PlanCache("full", none).status().message(),
              HasSubstr("layers 0"));
  PlanDims huge = Dims(4096, 4096, 16384, 1 << 28);
  huge.sequences = 1 << 16;
  EXPECT_EQ(PlanCache("full", huge).status().code(), StatusCode::kUsage);
}

TEST(PlanCacheTest, PresetNames) {
  EXPECT_THAT(PresetNames(), testing::Contains("snapkv-wide"));
  EXPECT_EQ(PresetNames().front(), "full");
}

}  // namespace
}  // namespace pyramidkv
