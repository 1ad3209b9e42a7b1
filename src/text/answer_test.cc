#include "text/answer.h"

#include <atomic>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "text/testing/default_vocabulary.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class AnswerTest : public DefaultVocabulary {
 protected:
  static std::vector<int> Tokens(std::string_view text) {
    return *tokenizer_->Tokenize(text, {});
  }
  // [vocabulary], where `id` is the likeliest.
  static std::vector<float> LogitsFor(int id) {
    std::vector<float> logits(tokenizer_->vocabulary(), 0.0f);
    logits[id] = 9.0f;
    return logits;
  }
  static std::unique_ptr<Answer> Begin(const GenerateOptions& options,
                                       size_t most = 100) {
    auto answer = Answer::Begin(options, *tokenizer_, most);
    EXPECT_TRUE(answer.ok()) << answer.status().message();
    return std::move(*answer);
  }
  // A model that wants to say `ids`; returns what it was asked to decode.
  static std::vector<int> Say(const std::vector<int>& ids, Answer* answer) {
    std::vector<int> decoded;
    for (const int id : ids) {
      const auto next = answer->Next(LogitsFor(id));
      EXPECT_TRUE(next.ok()) << next.status().message();
      if (!next.ok() || !*next) break;
      decoded.push_back(**next);
    }
    return decoded;
  }
};

TEST_F(AnswerTest, LastTokenNeedsNoDecoding) {
  const std::vector<int> ids = Tokens("one two three four");
  auto answer = Begin({.max_tokens = 3});
  EXPECT_THAT(Say(ids, answer.get()), ElementsAre(ids[0], ids[1]));
  const Generation generation = answer->Finish();
  EXPECT_EQ(generation.tokens.size(), 3u);
  EXPECT_EQ(generation.text, "one two three");
  EXPECT_EQ(generation.finish_reason, "length");
}

TEST_F(AnswerTest, EndOfGenerationIsNoToken) {
  std::vector<int> ids = Tokens("yes");
  ids.push_back(kImEnd);
  auto answer = Begin({});
  Say(ids, answer.get());
  Generation generation = answer->Finish();
  EXPECT_EQ(generation.finish_reason, "stop");
  EXPECT_EQ(generation.tokens.size(), 1u);
  answer = Begin({.max_tokens = 5, .ignore_eos = true});
  Say(ids, answer.get());
  generation = answer->Finish();
  EXPECT_EQ(generation.finish_reason, "length");
  EXPECT_EQ(generation.tokens.size(), 2u);
  EXPECT_EQ(generation.text, "yes");
}

std::string StopReason(Answer* answer) { return answer->Finish().stop_reason; }

TEST_F(AnswerTest, TheReasonOfItsEndIsKnown) {
  std::vector<int> ids = Tokens("yes");
  ids.push_back(kImEnd);
  auto answer = Begin({});
  Say(ids, answer.get());
  EXPECT_EQ(StopReason(answer.get()), "eos");
  answer = Begin({.max_tokens = 1});
  Say(ids, answer.get());
  EXPECT_EQ(StopReason(answer.get()), "limit");
  answer = Begin({});
  Say(Tokens("yes"), answer.get());  // and its caller has no room for more
  EXPECT_EQ(StopReason(answer.get()), "context_full");
  answer = Begin({.stop = {"es"}});
  Say(ids, answer.get());
  EXPECT_EQ(StopReason(answer.get()), "stop");
}

TEST_F(AnswerTest, LoopsEndWhereThatIsAskedFor) {
  const std::vector<int> ids(200, Tokens("yes")[0]);
  auto answer = Begin({.max_tokens = 200, .stop_loops = true});
  Say(ids, answer.get());
  Generation generation = answer->Finish();
  EXPECT_EQ(generation.finish_reason, "stop");
  EXPECT_EQ(generation.stop_reason, "loop");
  EXPECT_EQ(generation.tokens.size(), size_t(LoopDetector::kLeastTokens));
  for (GenerateOptions options :
       {GenerateOptions{.max_tokens = 200},
        GenerateOptions{
            .max_tokens = 200, .ignore_eos = true, .stop_loops = true},
        GenerateOptions{
            .max_tokens = 200, .stop_loops = true, .forced = {ids[0]}}}) {
    answer = Begin(options);
    Say(ids, answer.get());
    EXPECT_EQ(StopReason(answer.get()), "limit");
  }
}

TEST_F(AnswerTest, WithoutTokensNothingIsShown) {
  int shown = 0;
  GenerateOptions options{.max_tokens = 0};
  options.on_logits = [&](std::span<const float>) { return ++shown > 0; };
  auto answer = Begin(options);
  EXPECT_TRUE(Say({5}, answer.get()).empty());
  EXPECT_EQ(shown, 0);
  EXPECT_EQ(answer->Finish().finish_reason, "length");
}

// A stop string that is the name of a control token, which has no text.
TEST_F(AnswerTest, StopStringsMayBeControlTokens) {
  std::vector<int> ids = Tokens("yes");
  ids.push_back(kImStart);
  for (const int id : Tokens(" no")) ids.push_back(id);
  std::string shown;
  GenerateOptions options{.stop = {"<|im_start|>", "never"}};
  options.on_text = [&](std::string_view piece) { shown += piece; };
  auto answer = Begin(options);
  const std::vector<int> decoded = Say(ids, answer.get());
  EXPECT_THAT(decoded, ElementsAre(ids[0]));
  const Generation generation = answer->Finish();
  EXPECT_EQ(generation.finish_reason, "stop");
  EXPECT_EQ(generation.text, "yes");
  EXPECT_EQ(shown, "yes");
  // Its name in plain text is a stop string like any other.
  answer = Begin({.stop = {"<|im_start|>"}});
  Say(*tokenizer_->Tokenize("a<|im_start|>b", {.parse_special = false}),
      answer.get());
  EXPECT_EQ(answer->Finish().text, "a");
  // Without it the token shows nothing and stops nothing.
  answer = Begin({.max_tokens = 3, .stop = {"never"}});
  Say(ids, answer.get());
  EXPECT_EQ(answer->Finish().text, "yes no");
}

// Text that may become a stop string is shown once the control token ends it.
TEST_F(AnswerTest, ControlTokenShowsWhatWasHeldBack) {
  std::vector<int> ids = Tokens("so END");
  ids.push_back(kImStart);
  auto answer = Begin({.stop = {" END OF", "<|im_start|>"}});
  Say(ids, answer.get());
  const Generation generation = answer->Finish();
  EXPECT_EQ(generation.text, "so END");
  EXPECT_EQ(generation.finish_reason, "stop");
}

TEST_F(AnswerTest, ForcedTokensAreAllDecoded) {
  const std::vector<int> forced = Tokens("one two three");
  int shown = 0;
  GenerateOptions options{.max_tokens = 3, .stop = {"two"}, .forced = forced};
  options.on_logits = [&](std::span<const float>) { return ++shown > 0; };
  auto answer = Begin(options);
  std::vector<int> decoded;
  while (!answer->forced().empty()) {
    const auto id = answer->Next(LogitsFor(7));
    ASSERT_TRUE(id.ok() && *id);
    decoded.push_back(**id);
  }
  EXPECT_EQ(decoded, forced);
  EXPECT_FALSE(**answer->Next(LogitsFor(7)));
  EXPECT_EQ(shown, 4);  // the last ones, too
  const Generation generation = answer->Finish();
  EXPECT_EQ(generation.text, "one ");
  EXPECT_EQ(generation.tokens.size(), 3u);
}

TEST_F(AnswerTest, LogprobsAreOfAllLogits) {
  auto answer = Begin({.max_tokens = 1, .logprobs = 2});
  std::vector<float> logits = LogitsFor(300);
  logits[40] = 8.0f;
  ASSERT_TRUE(answer->Next(logits).ok());
  const Generation generation = answer->Finish();
  const GeneratedToken& token = generation.tokens.at(0);
  const double norm = std::log(std::exp(9.0) + std::exp(8.0) +
                               double(tokenizer_->vocabulary() - 2));
  EXPECT_NEAR(token.logprob, 9 - norm, 1e-5);
  ASSERT_EQ(token.top.size(), 2u);
  EXPECT_EQ(token.top[0].id, 300);
  EXPECT_EQ(token.top[1].id, 40);
  EXPECT_NEAR(token.top[1].logprob, 8 - norm, 1e-5);
}

TEST_F(AnswerTest, TokensComeBeforeTheirText) {
  std::string events;
  GenerateOptions options{.max_tokens = 2};
  options.on_token = [&](const GeneratedToken&) { events += "t"; };
  options.on_text = [&](std::string_view) { events += "x"; };
  auto answer = Begin(options);
  Say(Tokens("one two"), answer.get());
  answer->Finish();
  EXPECT_EQ(events, "txtx");
}

TEST_F(AnswerTest, CancellationAndErrorsEndIt) {
  std::atomic<bool> cancel{false};
  GenerateOptions options{.cancel = &cancel};
  options.on_token = [&](const GeneratedToken&) { cancel = true; };
  auto answer = Begin(options);
  EXPECT_TRUE(Say(Tokens("one two"), answer.get()).empty());
  const Generation generation = answer->Finish();
  EXPECT_EQ(generation.finish_reason, "cancelled");
  EXPECT_EQ(generation.tokens.size(), 1u);

  GenerateOptions broken;
  broken.on_logits = [](std::span<const float>) { return false; };
  answer = Begin(broken);
  EXPECT_EQ(answer->Next(LogitsFor(5)).status().code(), StatusCode::kRuntime);
  const auto wrong =
      Answer::Begin({.sampling = {.top_p = 2.0f}}, *tokenizer_, 1);
  EXPECT_THAT(wrong.status().message(), HasSubstr("top_p"));
}

}  // namespace
}  // namespace pyramidkv
