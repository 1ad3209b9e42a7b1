#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pyramidkv/cache_spec.h"

namespace pyramidkv {
namespace {

TEST(CacheSpecTextTest, FindsWhatTheTextSays) {
  const char* const spec = "snapkv,keep=0.3,type_k=int8,profile=a=b";
  EXPECT_EQ(CacheSpecValue(spec, "type_k"), "int8");
  EXPECT_EQ(CacheSpecValue(spec, "profile"), "a=b");
  EXPECT_EQ(CacheSpecValue(spec, "type"), std::nullopt);
  EXPECT_EQ(CacheSpecValue(spec, "snapkv"), std::nullopt);
  EXPECT_EQ(CacheSpecValue(spec, ""), std::nullopt);
  EXPECT_EQ(CacheSpecValue("full,type=", "type"), "");
}

TEST(CacheSpecTextTest, SetsInPlaceOrAtTheEnd) {
  EXPECT_EQ(SetCacheSpecValue("full", "type", "f32"), "full,type=f32");
  EXPECT_EQ(SetCacheSpecValue("snapkv,keep=0.3,type=f32", "keep", "0.5"),
            "snapkv,keep=0.5,type=f32");
  EXPECT_EQ(SetCacheSpecValue("full,type_k=f32", "type", "f16"),
            "full,type_k=f32,type=f16");
}

TEST(CacheSpecTextTest, TidiesWhatPeopleType) {
  EXPECT_EQ(TidyCacheSpec("SnapKV, keep = 0.3 , type=Q8_0"),
            "snapkv,keep=0.3,type=int8");
  EXPECT_EQ(TidyCacheSpec("full,type_k=INT8,recent_type=q4_0"),
            "full,type_k=int8,recent_type=int4");
  EXPECT_EQ(TidyCacheSpec("duo-attention, profile=/A b/C.json"),
            "duo-attention,profile=/A b/C.json");
  EXPECT_EQ(TidyCacheSpec("snapkv,memory=64MiB"), "snapkv,memory=64MiB");
  EXPECT_EQ(TidyCacheSpec("full,"), "full,");
  EXPECT_EQ(TidyCacheSpec(""), "");
}

}  // namespace
}  // namespace pyramidkv
