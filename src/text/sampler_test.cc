#include <limits>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/testing/default_vocabulary.h"

namespace pyramidkv {
namespace {

using testing::HasSubstr;

class SamplerTest : public DefaultVocabulary {
 protected:
  static std::unique_ptr<Sampler> Make(const SamplingOptions& options) {
    auto sampler = Sampler::Make(options, *tokenizer_);
    EXPECT_TRUE(sampler.ok()) << sampler.status().message();
    return std::move(*sampler);
  }
  // [vocabulary], normal with the given spread.
  static std::vector<float> Logits(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(tokenizer_->vocabulary());
    for (float& logit : logits) logit = normal(random);
    return logits;
  }
  static std::vector<int> Draw(const SamplingOptions& options, int count) {
    auto sampler = Make(options);
    std::vector<int> tokens;
    for (int i = 0; i < count; ++i) {
      tokens.push_back(sampler->Sample(Logits(i % 4)));
    }
    return tokens;
  }
};

TEST_F(SamplerTest, GreedyTakesHighestAndLowestIdOnTies) {
  std::vector<float> logits(tokenizer_->vocabulary(), -1.0f);
  logits[700] = logits[300] = logits[49151] = 5.0f;
  EXPECT_EQ(Make({})->Sample(logits), 300);
  EXPECT_EQ(Make({.temp = -1.0f})->Sample(logits), 300);
  // The same with penalties that have nothing to act on yet.
  EXPECT_EQ(Make({.repeat_penalty = 1.5f})->Sample(logits), 300);
}

TEST_F(SamplerTest, SameSeedSameTokens) {
  const SamplingOptions options{.temp = 1.0f, .seed = 42};
  const std::vector<int> first = Draw(options, 32);
  EXPECT_EQ(Draw(options, 32), first);
  SamplingOptions other = options;
  other.seed = 43;
  EXPECT_NE(Draw(other, 32), first);
  EXPECT_GT(std::set<int>(first.begin(), first.end()).size(), 4u);
}

TEST_F(SamplerTest, TopKOneIsGreedy) {
  const auto greedy = Draw({}, 8);
  EXPECT_EQ(Draw({.temp = 2.0f, .top_k = 1, .seed = 5}, 8), greedy);
}

TEST_F(SamplerTest, FiltersLimitTheChoice) {
  std::vector<float> logits(tokenizer_->vocabulary(), 0.0f);
  logits[10] = 12.0f;
  logits[20] = 11.5f;
  logits[30] = 2.0f;
  const SamplingOptions kinds[] = {
      {.temp = 1.0f, .top_k = 2, .top_p = 1.0f, .min_p = 0.0f},
      {.temp = 1.0f, .top_k = 0, .top_p = 0.7f, .min_p = 0.0f},
      {.temp = 1.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.1f},
  };
  for (const SamplingOptions& options : kinds) {
    auto sampler = Make(options);
    std::set<int> seen;
    for (int i = 0; i < 200; ++i) seen.insert(sampler->Sample(logits));
    EXPECT_EQ(seen, (std::set<int>{10, 20}));
  }
}

TEST_F(SamplerTest, PenaltiesRememberSampledAndForcedTokens) {
  std::vector<float> logits(tokenizer_->vocabulary(), 0.0f);
  logits[10] = 5.0f;
  logits[20] = 4.5f;
  logits[30] = 4.0f;
  auto sampler = Make({.repeat_last_n = 2, .presence_penalty = 2.0f});
  sampler->Accept(10);
  EXPECT_EQ(sampler->Sample(logits), 20);  // 10 was forced
  EXPECT_EQ(sampler->Sample(logits), 30);  // 10 and 20 are penalised
  EXPECT_EQ(sampler->Sample(logits), 10);  // 10 left the last two
  sampler->Accept(-1);
  sampler->Accept(tokenizer_->vocabulary());
  EXPECT_EQ(Make({.repeat_penalty = 9.0f, .repeat_last_n = 0})->Sample(logits),
            10);
}

TEST_F(SamplerTest, RejectsImpossibleValues) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<SamplingOptions, const char*> cases[] = {
      {{.temp = nan}, "temp"},
      {{.top_p = 1.5f}, "top_p"},
      {{.min_p = -0.1f}, "min_p"},
      {{.repeat_penalty = 0.0f}, "repeat_penalty"},
      {{.repeat_last_n = -1}, "repeat_last_n"},
      {{.presence_penalty = nan}, "presence_penalty"},
      {{.frequency_penalty = nan}, "frequency_penalty"},
  };
  for (const auto& [options, name] : cases) {
    const auto sampler = Sampler::Make(options, *tokenizer_);
    ASSERT_FALSE(sampler.ok()) << name;
    EXPECT_EQ(sampler.status().code(), StatusCode::kUsage);
    EXPECT_THAT(sampler.status().message(), HasSubstr(name));
  }
}

}  // namespace
}  // namespace pyramidkv
