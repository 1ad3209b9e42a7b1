#include "policy/pool_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace pyramidkv {
namespace {

using testing::ElementsAre;

CacheSpec Spec(const char* text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

TEST(PoolScoresTest, RecentEntriesTakeNoPart) {
  const std::vector<float> raw = {0, 3, 0, 0, 9};
  EXPECT_THAT(
      PoolScores(Spec("snapkv,keep=0.5,kernel=3,pool=max,recent=1"), raw, 3),
      ElementsAre(3, 3, 3, 0, 0));
  EXPECT_THAT(PoolScores(Spec("snapkv,keep=0.5,kernel=3,recent=0"), raw, 3),
              ElementsAre(1, 1, 1, 3, 3));
}

TEST(PoolScoresTest, PeaksSpreadAfterThePool) {
  const std::vector<float> raw = {0, 3, 0, 0, 0, 0};
  EXPECT_THAT(
      PoolScores(Spec("snapkv,keep=0.5,kernel=3,recent=1,spread=1"), raw, 3),
      ElementsAre(1, 1, 1, 1, 0, 0));
  EXPECT_THAT(PoolScores(Spec("knorm,keep=0.5"), raw, 3),
              testing::ElementsAreArray(raw));
}

}  // namespace
}  // namespace pyramidkv
