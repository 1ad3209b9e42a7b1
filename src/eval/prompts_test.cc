#include "eval/prompts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "eval/testing/word_counter.h"

namespace pyramidkv {
namespace {

using testing::HasSubstr;

int Occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; ++at) ++count;
  return count;
}

std::vector<std::string> Numbers(const std::string& text) {
  const std::regex number("[0-9]+");
  std::vector<std::string> all;
  for (std::sregex_iterator i(text.begin(), text.end(), number), end; i != end;
       ++i) {
    all.push_back(i->str());
  }
  return all;
}

class PromptsTest : public testing::Test {
 protected:
  Prompt Make(const EvalOptions& options, int trial) {
    Result<Prompt> prompt = MakePrompt(generator_, options, trial);
    EXPECT_TRUE(prompt.ok()) << prompt.status().message();
    return prompt.ok() ? *prompt : Prompt{};
  }

  TextGenerator generator_{CountWords};
};

TEST_F(PromptsTest, ContextsHaveTheTokensAskedFor) {
  for (const EvalTask task : {EvalTask::kPasskey, EvalTask::kNeedle}) {
    for (const EvalVariant variant : {EvalVariant::kPlain, EvalVariant::kMulti,
                                      EvalVariant::kRev, EvalVariant::kLong}) {
      for (const int tokens : {200, 300, 1000, 2001}) {
        for (int trial = 0; trial < 5; ++trial) {
          const EvalOptions options{
              .task = task, .variant = variant, .tokens = tokens};
          const Prompt prompt = Make(options, trial);
          EXPECT_NEAR(CountWords(prompt.context), tokens, 3)
              << kEvalVariantNames[static_cast<size_t>(variant)] << " "
              << trial;
        }
      }
    }
  }
}

// Where paragraphs join in one token, the sum of the parts is too much by
// more than thirty tokens here.
TEST_F(PromptsTest, ContextsAreMeasuredAsAWhole) {
  const TextGenerator joining(CountJoining);
  for (int trial = 0; trial < 5; ++trial) {
    const auto prompt = MakePrompt(joining, {.tokens = 2000}, trial);
    ASSERT_TRUE(prompt.ok());
    EXPECT_NEAR(CountJoining(prompt->context), 2000, 8);
    EXPECT_GT(CountWords(prompt->context), 2020);
  }
}

TEST_F(PromptsTest, TheFactIsAParagraphAtItsDepth) {
  for (const double depth : {0.0, 0.1, 0.25, 0.5, 0.77, 1.0}) {
    const EvalOptions options{.tokens = 1000, .depths = {depth}};
    const Prompt prompt = Make(options, 3);
    EXPECT_EQ(prompt.depth, depth);
    const std::string fact =
        "\nThe pass key is " + prompt.expected + ". Remember it.";
    const size_t at = prompt.context.find(fact);
    ASSERT_NE(at, std::string::npos);
    const size_t end = at + fact.size();
    EXPECT_TRUE(end == prompt.context.size() || prompt.context[end] == '\n');
    const std::string intro = prompt.context.substr(
        0, std::min(prompt.context.find('\n'), prompt.context.size()));
    const int filler =
        CountWords(prompt.context) - CountWords(intro) - CountWords(fact);
    const int before =
        CountWords(prompt.context.substr(0, at)) - CountWords(intro);
    EXPECT_NEAR(before, depth * filler, 5);
  }
}

TEST_F(PromptsTest, DepthsSpreadEvenlyWhateverTheNumberOfTrials) {
  for (const int trials : {5, 20, 100}) {
    std::vector<double> depths;
    for (int t = 0; t < trials; ++t) depths.push_back(DepthOfTrial({}, t));
    std::sort(depths.begin(), depths.end());
    depths.insert(depths.begin(), 0);
    depths.push_back(1);
    for (size_t i = 1; i < depths.size(); ++i) {
      EXPECT_LT(depths[i] - depths[i - 1], 2.0 / trials) << trials;
    }
  }
  const EvalOptions in_turn{.depths = {0.25, 0.75, 1}};
  EXPECT_EQ(DepthOfTrial(in_turn, 0), 0.25);
  EXPECT_EQ(DepthOfTrial(in_turn, 4), 0.75);
  EXPECT_EQ(DepthOfTrial(in_turn, 5), 1);
}

TEST_F(PromptsTest, Plain) {
  const Prompt prompt = Make({.tokens = 500}, 1);
  EXPECT_THAT(prompt.context, testing::StartsWith("There is an important"));
  EXPECT_EQ(Numbers(prompt.context), std::vector{prompt.expected});
  EXPECT_EQ(prompt.expected.size(), 5u);
  EXPECT_EQ(prompt.question, "\n\nWhat is the pass key?\n");
  EXPECT_EQ(prompt.prefix, "The pass key is ");
}

TEST_F(PromptsTest, Long) {
  const Prompt prompt = Make({.variant = EvalVariant::kLong, .tokens = 500}, 1);
  EXPECT_EQ(Numbers(prompt.context), std::vector{prompt.expected});
  EXPECT_EQ(prompt.expected.size(), 12u);
}

TEST_F(PromptsTest, RevHasTheNumberFirst) {
  const Prompt prompt = Make({.variant = EvalVariant::kRev, .tokens = 500}, 1);
  const size_t number = prompt.context.find(prompt.expected);
  EXPECT_EQ(Occurrences(prompt.context, "pass key"), 1);
  EXPECT_LT(number, prompt.context.find("pass key"));
}

TEST_F(PromptsTest, MultiAsksForOneOfSix) {
  for (int trial = 0; trial < 20; ++trial) {
    const Prompt prompt =
        Make({.variant = EvalVariant::kMulti, .tokens = 500}, trial);
    const std::vector<std::string> numbers = Numbers(prompt.context);
    EXPECT_EQ(std::set(numbers.begin(), numbers.end()).size(), 6u);
    EXPECT_EQ(Occurrences(prompt.context,
                          prompt.prefix + prompt.expected + ". Remember it."),
              1);
    const std::string name =
        prompt.prefix.substr(4, prompt.prefix.find(" pass") - 4);
    EXPECT_THAT(prompt.question, HasSubstr(name + " pass key?"));
    EXPECT_EQ(Occurrences(prompt.context, prompt.prefix), 1);
  }
}

TEST_F(PromptsTest, NeedleIsAFruitOfOneToken) {
  // In this vocabulary only two fruits are.
  const TextGenerator generator([](std::string_view text) {
    const bool fruit = text.ends_with(" fig") || text.ends_with(" plum");
    return CountWords(text) + (fruit ? 0 : 1) - (text == "now" ? 1 : 0);
  });
  std::set<std::string> fruits;
  for (int trial = 0; trial < 20; ++trial) {
    const auto prompt = MakePrompt(
        generator, {.task = EvalTask::kNeedle, .tokens = 300}, trial);
    ASSERT_TRUE(prompt.ok());
    fruits.insert(prompt->expected);
    EXPECT_EQ(Occurrences(prompt->context,
                          prompt->prefix + " " + prompt->expected + "."),
              1);
  }
  EXPECT_EQ(fruits, (std::set<std::string>{"fig", "plum"}));
}

TEST_F(PromptsTest, SeedsAndTrialsDiffer) {
  const Prompt prompt = Make({.tokens = 300, .seed = 1}, 0);
  EXPECT_EQ(prompt.context, Make({.tokens = 300, .seed = 1}, 0).context);
  EXPECT_NE(prompt.context, Make({.tokens = 300, .seed = 1}, 1).context);
  EXPECT_NE(prompt.context, Make({.tokens = 300, .seed = 2}, 0).context);
  EXPECT_NE(prompt.expected, Make({.tokens = 300, .seed = 2}, 0).expected);
}

TEST_F(PromptsTest, ContextsThatAreTooShortAreRefused) {
  const Result<Prompt> prompt = MakePrompt(generator_, {.tokens = 20}, 0);
  ASSERT_FALSE(prompt.ok());
  EXPECT_EQ(prompt.status().code(), StatusCode::kUsage);
  EXPECT_THAT(prompt.status().message(), HasSubstr("20 tokens is too short"));
  // The least that the message names is enough.
  const std::string& message = prompt.status().message();
  const int least = std::stoi(message.substr(message.rfind(' ') + 1));
  EXPECT_TRUE(MakePrompt(generator_, {.tokens = least}, 0).ok());
  EXPECT_FALSE(MakePrompt(generator_, {.tokens = least - 1}, 0).ok());
}

TEST_F(PromptsTest, TextIsLongEnough) {
  for (const int tokens : {1, 50, 777}) {
    const std::string text = MakeText(generator_, tokens, {}, 2);
    EXPECT_GE(CountWords(text), tokens);
    EXPECT_LE(CountWords(text), tokens + tokens / 8 + 50);
  }
}

}  // namespace
}  // namespace pyramidkv
