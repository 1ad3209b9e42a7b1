// Budgets of the published pyramids, number by number.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "policy/schedule.h"

namespace pyramidkv {
namespace {

std::vector<int> Layers(const std::string& text, int layers, int tokens,
                        int kv_heads = 1) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  if (!spec.ok()) return {};
  const Result<Budgets> b = ResolveBudgets(
      *spec, {.layers = layers, .kv_heads = kv_heads, .tokens = tokens});
  EXPECT_TRUE(b.ok()) << b.status().message();
  return b.ok() ? b->entries : std::vector<int>{};
}

int Sum(const std::vector<int>& v) {
  return std::accumulate(v.begin(), v.end(), 0);
}

// first, first - step, ... down to last.
std::vector<int> Steps(int first, int step, int layers) {
  std::vector<int> v(layers);
  for (int l = 0; l < layers; ++l) v[l] = first - l * step;
  return v;
}

struct Reference {
  int layers, mean, window, tokens;  // mean 128 is the paper's M
  int first, step;
  int sum;  // 0: not stated
};

class ReferenceTest : public testing::TestWithParam<Reference> {};

TEST_P(ReferenceTest, IsThePapersCode) {
  const Reference& c = GetParam();
  const std::string spec = fmt::format(
      "pyramidkv,mode=reference,tokens={},window={}", c.mean, c.window);
  const std::vector<int> got = Layers(spec, c.layers, c.tokens);
  EXPECT_EQ(got, Steps(c.first, c.step, c.layers));
  if (c.sum > 0) {
    EXPECT_EQ(Sum(got), c.sum);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ReferenceTest,
    testing::Values(Reference{32, 128, 8, 100000, 242, 7, 4272},
                    Reference{32, 128, 32, 100000, 220, 5, 4560},
                    Reference{32, 2048, 8, 100000, 3986, 125, 65552},
                    Reference{32, 512, 8, 100000, 991, 30, 16832},
                    Reference{32, 96, 8, 100000, 180, 5, 3280},
                    Reference{32, 64, 8, 100000, 118, 3, 2288},
                    Reference{80, 128, 8, 100000, 242, 2, 13040},
                    Reference{28, 128, 8, 100000, 242, 8, 3752},
                    Reference{36, 1024, 32, 100000, 1967, 53, 37422},
                    // Short prompts: uniform, then held at all past entries.
                    Reference{32, 128, 8, 200, 128, 0, 4096},
                    Reference{32, 128, 8, 128, 128, 0, 4096},
                    Reference{32, 128, 8, 100, 100, 0, 3200},
                    Reference{32, 128, 8, 240, 240, 7, 0},
                    Reference{32, 128, 8, 241, 241, 7, 0},
                    // Held: 8 past entries in the last layer, not 6.
                    Reference{4, 128, 8, 240, 240, 74, 0}));

TEST(ReferenceTest, OneLayerGetsTheMean) {
  EXPECT_THAT(Layers("pyramidkv,mode=reference,tokens=128", 1, 5000),
              testing::ElementsAre(128));
}

TEST(KvpressTest, HalfOf4096) {
  const std::vector<int> want = {3994, 3868, 3743, 3617, 3492, 3366, 3240, 3115,
                                 2989, 2864, 2738, 2613, 2487, 2362, 2236, 2111,
                                 1985, 1860, 1734, 1609, 1483, 1358, 1232, 1107,
                                 981,  856,  730,  604,  479,  353,  228,  102};
  EXPECT_EQ(Sum(want), 65536);
  EXPECT_EQ(Layers("pyramidkv,mode=kvpress,window=64,keep=0.5", 32, 4096),
            want);
}

TEST(KvpressTest, ClampsAndFallsBackToUniform) {
  const auto clamped =
      Layers("pyramidkv,mode=kvpress,window=64,keep=0.75", 32, 4096);
  EXPECT_EQ(clamped.front(), 4032);
  EXPECT_EQ(clamped.back(), 2112);
  EXPECT_EQ(Layers("pyramidkv,mode=kvpress,window=64,keep=0.25", 32, 4096),
            std::vector<int>(32, 1024));
  EXPECT_EQ(Layers("pyramidkv,mode=kvpress,window=64,keep=0.125", 32, 4096),
            std::vector<int>(32, 512));
  // 0.4 entries would empty every layer without a word.
  EXPECT_EQ(Layers("pyramidkv,mode=kvpress,keep=0.04", 4, 10),
            std::vector<int>(4, 1));
}

TEST(KvpressTest, MatchesItsOwnBudgets) {
  std::ifstream file(PYRAMIDKV_SOURCE_DIR "/tests/golden/pyramid_budgets.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json golden = nlohmann::json::parse(file);
  int checked = 0;
  for (const auto& [name, want] : golden.items()) {
    int tokens = 0, window = 0, beta = 0, dropped_tenths = 0;
    ASSERT_EQ(std::sscanf(name.c_str(), "S%d_r0.%d_w%d_beta%d", &tokens,
                          &dropped_tenths, &window, &beta),
              4)
        << name;
    const std::string spec =
        fmt::format("pyramidkv,mode=kvpress,keep=0.{},window={},beta={}",
                    10 - dropped_tenths, window, beta);
    EXPECT_EQ(Layers(spec, 30, tokens), want.get<std::vector<int>>()) << name;
    ++checked;
  }
  EXPECT_EQ(checked, 42);
}

// The exact mode is the same line as kvpress', but for its rounding.
TEST(ExactPyramidTest, IsTheLineAndMeetsTheTotal) {
  const auto exact = Layers("pyramidkv,tokens=128,window=8", 32, 100000);
  EXPECT_EQ(Sum(exact), 128 * 32);
  EXPECT_EQ(exact.front(), 242);  // 8 + 2 * 120 - 6
  EXPECT_EQ(exact.back(), 14);    // 8 + 120 / 20
  for (size_t l = 0; l < exact.size(); ++l) {
    EXPECT_NEAR(exact[l], 242 - 228.0 * l / 31, 1.0);
    if (l > 0) {
      EXPECT_LE(exact[l], exact[l - 1]);
    }
  }
  // The first layer is held at all 192 past entries, the last gets the rest.
  const auto held = Layers("pyramidkv,tokens=128,window=8", 32, 200);
  EXPECT_EQ(held.front(), 200);
  EXPECT_EQ(held.back(), 56);
  EXPECT_EQ(Sum(held), 128 * 32);
  EXPECT_THAT(Layers("pyramidkv,tokens=128", 1, 5000),
              testing::ElementsAre(128));
}

}  // namespace
}  // namespace pyramidkv
