#include "cli/conversation.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pyramidkv/batch.h"

namespace pyramidkv::cli {
namespace {

using testing::ElementsAre;
using testing::Optional;

TEST(NewTextTest, IsWhatFollowsTheAnswer) {
  EXPECT_THAT(NewText("<u>a</u><a>", "yes", "<u>a</u><a>yes</a><u>b</u><a>"),
              Optional(std::string("</a><u>b</u><a>")));
  EXPECT_THAT(NewText("", "", "all"), Optional(std::string("all")));
}

TEST(NewTextTest, TemplatesMayTrim) {
  EXPECT_THAT(NewText("P", " yes\n", "Pyes</a>"),
              Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P", "yes\n", "Pyes</a>"), Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P", " \n", "P</a>"), Optional(std::string("</a>")));
}

TEST(NewTextTest, NoneForAnotherStory) {
  EXPECT_EQ(NewText("P", "yes", "Qyes</a>"), std::nullopt);
  EXPECT_EQ(NewText("P", "yes", "Pno</a>"), std::nullopt);
}

constexpr int kEnd = '|';

// Says what it was told to; a token is a byte.
class FakeSession final : public Session {
 public:
  FakeSession(std::string answer, int context, std::vector<std::string>* reads)
      : answer_(std::move(answer)), context_(context), reads_(reads) {}

  Status Read(std::span<const int> tokens, const Progress& progress) override {
    reads_->emplace_back(tokens.begin(), tokens.end());
    if (progress && !progress(0, 1)) return Status::Cancelled();
    position_ += static_cast<int>(tokens.size());
    return {};
  }
  // As the real one: the last token that was sampled is not decoded.
  Result<Generation> Generate(const GenerateOptions& options) override {
    Generation generation;
    const auto limit = static_cast<size_t>(options.max_tokens);
    for (const char c : answer_.substr(0, limit)) {
      generation.tokens.push_back({c, 0, {}});
      if (c != kEnd) generation.text += c;
    }
    position_ += static_cast<int>(generation.tokens.size()) - 1;
    return generation;
  }
  Result<std::vector<float>> Force(std::span<const int>) override {
    return std::vector<float>{};
  }
  std::span<const float> logits() const override { return {}; }
  int position() const override { return position_; }
  std::span<const int> tokens() const override { return {}; }
  Status Save(const std::string&) override { return {}; }
  Result<std::unique_ptr<Session>> Fork() override {
    return Status::Runtime("no forks");
  }
  int context_size() const override { return context_; }
  KvReport Report() const override { return {}; }
  void SetTrace(std::function<void(std::string_view)>) override {}

 private:
  const std::string answer_;
  const int context_;
  std::vector<std::string>* const reads_;
  int position_ = 0;
};

class FakeEngine final : public Engine {
 public:
  const ModelInfo& info() const override { return info_; }
  Compute compute() const override { return Compute::kF32; }
  int threads() const override { return 1; }
  Result<std::vector<int>> Tokenize(
      std::string_view text, const TokenizeOptions& options) const override {
    std::vector<int> ids(text.begin(), text.end());
    if (options.add_special) ids.insert(ids.begin(), '^');
    return ids;
  }
  std::string Detokenize(std::span<const int>) const override { return ""; }
  bool IsEndOfGeneration(int token) const override { return token == kEnd; }
  Result<std::string> ApplyChatTemplate(std::span<const ChatMessage> messages,
                                        std::string_view,
                                        bool add_assistant) const override {
    std::string text;
    for (const ChatMessage& m : messages) {
      text += m.role.substr(0, 1) + ":" + m.content + "|";
    }
    return add_assistant ? text + "a:" : text;
  }
  Result<std::unique_ptr<Session>> NewSession(const SessionOptions&) override {
    return std::unique_ptr<Session>(new FakeSession("yes|", context_, &reads));
  }
  Result<std::unique_ptr<Session>> LoadSession(const std::string&,
                                               const LoadOptions&) override {
    return NewSession({});
  }
  Status ReadShared(std::span<const int>, std::span<Session* const>,
                    const Progress&) override {
    return {};
  }
  Status DecodeBatch(std::span<Session* const>, std::span<const int>) override {
    return {};
  }
  Result<std::unique_ptr<Batch>> NewBatch(const BatchOptions&) override {
    return Status::Runtime("no batches");
  }

  std::vector<std::string> reads;
  int context_ = 100;

 private:
  ModelInfo info_;
};

GenerateOptions Limit(int tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  return options;
}

TEST(ConversationTest, TurnsReadOnlyWhatIsNew) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, "");
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "|u:two|a:"));
}

TEST(ConversationTest, ReadsTheTokenThatWasNotDecoded) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, "");
  ASSERT_TRUE(conversation.Say("one", Limit(2), {}).ok());
  ASSERT_TRUE(conversation.Say("two", Limit(2), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "e|u:two|a:"));
}

TEST(ConversationTest, ResetStartsAnewWithTheSystemMessage) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, "");
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  conversation.Reset("be");
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "^s:be|u:two|a:"));
}

TEST(ConversationTest, FullContextKeepsTheSession) {
  FakeEngine engine;
  engine.context_ = 20;
  Conversation conversation(&engine, {}, "");
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  const auto turn = conversation.Say("much too long", Limit(9), {});
  EXPECT_EQ(turn.status().code(), StatusCode::kDoesNotFit);
  EXPECT_EQ(engine.reads.size(), 1u);
  ASSERT_NE(conversation.session(), nullptr);
  EXPECT_EQ(conversation.session()->position(), 12);
}

TEST(ConversationTest, CancelledReadIsReadAgain) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, "");
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  const auto cancel = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(conversation.Say("lost", Limit(9), cancel).status().code(),
            StatusCode::kCancelled);
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_EQ(engine.reads.back(), "^u:one|a:yes|u:two|a:");
}

}  // namespace
}  // namespace pyramidkv::cli
