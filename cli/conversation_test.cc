#include "cli/conversation.h"

#include <algorithm>
#include <atomic>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"
#include "pyramidkv/batch.h"

namespace pyramidkv::cli {
namespace {

using testing::ElementsAre;
using testing::Optional;

// The text at the offset.
std::optional<std::string> NewText(std::string_view prompt,
                                   std::string_view answer,
                                   std::string_view rendered) {
  const auto offset = NewTextOffset(prompt, answer, rendered);
  if (!offset) return std::nullopt;
  return std::string(rendered.substr(*offset));
}

TEST(NewTextTest, IsWhatFollowsTheAnswer) {
  EXPECT_THAT(NewText("<u>a</u><a>", "yes", "<u>a</u><a>yes</a><u>b</u><a>"),
              Optional(std::string("</a><u>b</u><a>")));
  EXPECT_THAT(NewText("", "", "all"), Optional(std::string("all")));
}

TEST(NewTextTest, WhiteSpaceMayDiffer) {
  EXPECT_THAT(NewText("P", " yes\n", "Pyes</a>"),
              Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P", "yes\n", "Pyes</a>"), Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P", " \n", "P</a>"), Optional(std::string("</a>")));
  // Templates that write some of their own around an answer.
  EXPECT_THAT(NewText("P:", "yes", "P: yes</a>"),
              Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P:\n", "yes", "P: yes</a>"),
              Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P:", "\nyes\n\n", "P: yes\n</a>"),
              Optional(std::string("</a>")));
  EXPECT_THAT(NewText("P: ", "yes ", "P:yes\nU:"),
              Optional(std::string("\nU:")));
}

TEST(NewTextTest, NoneForAnotherStory) {
  EXPECT_EQ(NewText("P", "yes", "Qyes</a>"), std::nullopt);
  EXPECT_EQ(NewText("P", "yes", "Pno</a>"), std::nullopt);
}

TEST(WithDocumentsTest, QuestionStandsBehind) {
  const std::vector<std::string> two = {"one", "two"};
  EXPECT_EQ(WithDocuments({}, "why"), "why");
  EXPECT_EQ(WithDocuments(two, "why"), "one\n\ntwo\n\nwhy");
  EXPECT_EQ(WithDocuments(two, ""), "one\n\ntwo");
}

constexpr int kEnd = '|';

// Says what it was told to; a token is a byte.
class FakeSession final : public Session {
 public:
  FakeSession(std::string answer, int context, std::vector<std::string>* reads)
      : answer_(std::move(answer)), context_(context), reads_(reads) {}

  // As the real one: a later read that stops half-way makes it unusable.
  Status Read(std::span<const int> tokens, const Progress& progress) override {
    if (failed_) return Status::Runtime("stopped half-way");
    reads_->emplace_back(tokens.begin(), tokens.end());
    if (progress && !progress(0, 1)) {
      failed_ = !seen_.empty();
      return Status::Cancelled();
    }
    seen_.insert(seen_.end(), tokens.begin(), tokens.end());
    return {};
  }
  // As the real one: the last token that was sampled is not decoded.
  Result<Generation> Generate(const GenerateOptions& options) override {
    Generation generation;
    const auto limit = static_cast<size_t>(options.max_tokens);
    if (options.cancel != nullptr) {
      generation.finish_reason = "cancelled";
      return generation;
    }
    for (const char c : answer_.substr(0, limit)) {
      generation.tokens.push_back({c, 0, {}});
      if (c != kEnd) generation.text += c;
      seen_.push_back(c);
    }
    seen_.pop_back();
    return generation;
  }
  Result<std::vector<float>> Force(std::span<const int> tokens) override {
    seen_.insert(seen_.end(), tokens.begin(), tokens.end());
    return std::vector<float>{};
  }
  std::span<const float> logits() const override { return {}; }
  int position() const override { return static_cast<int>(seen_.size()); }
  std::span<const int> tokens() const override { return seen_; }
  Status Save(const std::string& path) override {
    return Status::Runtime(std::string(seen_.begin(), seen_.end()));
  }
  Result<std::unique_ptr<Session>> Fork() override {
    return std::unique_ptr<Session>(new FakeSession(*this));
  }
  int context_size() const override { return context_; }
  KvReport Report() const override {
    KvReport report;
    report.spec = endless_ ? "streaming-llm,positions=renumber" : "full";
    return report;
  }
  void SetTrace(std::function<void(std::string_view)>) override {}

  bool endless_ = false;
  std::vector<int> seen_;

 private:
  const std::string answer_;
  const int context_;
  std::vector<std::string>* const reads_;
  bool failed_ = false;
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
  bool has_chat_template() const override { return true; }
  Result<ChatText> RenderChat(std::span<const ChatMessage> messages,
                              const ChatOptions& options) const override {
    ChatText chat;
    for (const ChatMessage& m : messages) {
      const bool hidden = forgets && m.role == "assistant";
      chat.text +=
          m.role.substr(0, 1) + ":" + (hidden ? "..." : m.content) + "|";
    }
    if (options.add_assistant) chat.text += "a:";
    return chat;
  }
  Result<std::vector<int>> TokenizeChat(const ChatText& chat,
                                        bool add_special) const override {
    return Tokenize(chat.text, {.add_special = add_special});
  }
  std::span<const std::string> warnings() const override { return {}; }
  Result<std::unique_ptr<Session>> NewSession(const SessionOptions&) override {
    auto session = std::make_unique<FakeSession>("yes|", context_, &reads);
    session->endless_ = endless;
    return std::unique_ptr<Session>(std::move(session));
  }
  Result<std::unique_ptr<Session>> LoadSession(const std::string& path,
                                               const LoadOptions&) override {
    if (path.empty()) return Status::Model("no such session");
    auto session = std::make_unique<FakeSession>("yes|", context_, &reads);
    session->seen_.assign(path.begin(), path.end());
    return std::unique_ptr<Session>(std::move(session));
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
  bool forgets = false;  // its template drops what was answered
  bool endless = false;

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
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "|u:two|a:"));
}

TEST(ConversationTest, ReadsTheTokenThatWasNotDecoded) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.Say("one", Limit(2), {}).ok());
  ASSERT_TRUE(conversation.Say("two", Limit(2), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "e|u:two|a:"));
}

TEST(ConversationTest, ResetStartsAnewWithTheSystemMessage) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  conversation.Reset("be");
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:", "^s:be|u:two|a:"));
}

TEST(ConversationTest, FullContextKeepsTheSession) {
  FakeEngine engine;
  engine.context_ = 20;
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  const auto turn = conversation.Say("much too long", Limit(9), {});
  EXPECT_EQ(turn.status().code(), StatusCode::kDoesNotFit);
  EXPECT_EQ(engine.reads.size(), 1u);
  ASSERT_NE(conversation.session(), nullptr);
  EXPECT_EQ(conversation.session()->position(), 12);
}

bool Cancel(int64_t, int64_t) { return false; }

std::string Seen(const Conversation& conversation) {
  if (conversation.session() == nullptr) return "";
  const auto tokens = conversation.session()->tokens();
  return {tokens.begin(), tokens.end()};
}

TEST(ConversationTest, RefusedFirstTurnLosesNoBos) {
  FakeEngine engine;
  engine.context_ = 20;
  Conversation conversation(&engine, {}, {});
  EXPECT_EQ(
      conversation.Say(std::string(30, 'x'), Limit(9), {}).status().code(),
      StatusCode::kDoesNotFit);
  EXPECT_EQ(conversation.session(), nullptr);
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  EXPECT_THAT(engine.reads, ElementsAre("^u:one|a:"));
}

TEST(ConversationTest, CancelledReadIsUndone) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  EXPECT_EQ(conversation.Say("lost", Limit(9), Cancel).status().code(),
            StatusCode::kCancelled);
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  EXPECT_EQ(conversation.Say("lost", Limit(9), Cancel).status().code(),
            StatusCode::kCancelled);
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_THAT(
      engine.reads,
      ElementsAre("^u:lost|a:", "^u:one|a:", "|u:lost|a:", "|u:two|a:"));
  EXPECT_EQ(Seen(conversation), "^u:one|a:yes|u:two|a:yes");
}

TEST(ConversationTest, AnswerCancelledBeforeItsFirstTokenIsUndone) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  const std::atomic<bool> stop = true;
  GenerateOptions options = Limit(9);
  options.cancel = &stop;
  EXPECT_EQ(conversation.Say("lost", options, {}).status().code(),
            StatusCode::kCancelled);
  EXPECT_EQ(conversation.session(), nullptr);
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  EXPECT_FALSE(conversation.Say("lost", options, {}).ok());
  EXPECT_FALSE(conversation.Regenerate(options).ok());
  EXPECT_EQ(Seen(conversation), "^u:one|a:yes");
}

TEST(ConversationTest, AnotherStoryIsReadAnewOrNotAtAll) {
  FakeEngine engine;
  engine.forgets = true;
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
  EXPECT_FALSE(conversation.Say("two", Limit(9), Cancel).ok());
  EXPECT_EQ(Seen(conversation), "^u:one|a:yes");
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_EQ(engine.reads.back(), "^u:one|a:...|u:two|a:");
}

TEST(ConversationTest, RegeneratesFromBeforeTheAnswer) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  EXPECT_EQ(conversation.Regenerate(Limit(9)).status().code(),
            StatusCode::kUsage);
  ASSERT_TRUE(conversation.Say("one", Limit(1), {}).ok());
  for (int i = 0; i < 2; ++i) {
    const auto turn = conversation.Regenerate(Limit(9));
    ASSERT_TRUE(turn.ok());
    EXPECT_EQ(turn->generation.text, "yes");
    EXPECT_EQ(turn->read_tokens, 0);
  }
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_EQ(Seen(conversation), "^u:one|a:yes|u:two|a:yes");
  conversation.Reset("");
  EXPECT_FALSE(conversation.CanRegenerate());
}

TEST(ConversationTest, DocumentsStayUntilATurnIsAccepted) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  ASSERT_TRUE(conversation.AddDocument("doc").ok());
  EXPECT_EQ(conversation.AddDocument(std::string(200, 'x')).code(),
            StatusCode::kDoesNotFit);
  EXPECT_EQ(conversation.documents(), 1u);
  EXPECT_FALSE(conversation.Say("why", Limit(9), Cancel).ok());
  EXPECT_EQ(conversation.documents(), 1u);
  ASSERT_TRUE(conversation.Say("why", Limit(9), {}).ok());
  EXPECT_EQ(engine.reads.back(), "^u:doc\n\nwhy|a:");
  ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
  EXPECT_EQ(engine.reads.back(), "|u:two|a:");
  EXPECT_EQ(engine.reads.size(), 3u);
}

TEST(ConversationTest, SavesWhatTheCacheLacksToo) {
  FakeEngine engine;
  Conversation conversation(&engine, {}, {});
  EXPECT_EQ(conversation.Save("x").code(), StatusCode::kUsage);
  ASSERT_TRUE(conversation.Say("one", Limit(2), {}).ok());
  EXPECT_EQ(conversation.Save("x").message(), "^u:one|a:ye");
  EXPECT_EQ(Seen(conversation), "^u:one|a:y");
}

TEST(ConversationTest, LoadGoesOnAfterAnOpenOrAnEndedTurn) {
  for (const bool forgets : {false, true}) {
    FakeEngine engine;
    engine.forgets = forgets;
    Conversation conversation(&engine, {}, {});
    ASSERT_TRUE(conversation.Load("^u:old|a:no").ok());
    EXPECT_FALSE(conversation.CanRegenerate());
    engine.forgets = false;
    ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
    ASSERT_TRUE(conversation.Say("two", Limit(9), {}).ok());
    EXPECT_EQ(Seen(conversation), "^u:old|a:no|u:one|a:yes|u:two|a:yes");
    EXPECT_EQ(conversation.Load("").code(), StatusCode::kModel);
    EXPECT_EQ(Seen(conversation), "^u:old|a:no|u:one|a:yes|u:two|a:yes");
    ASSERT_TRUE(conversation.Load("^u:old|").ok());
    ASSERT_TRUE(conversation.Say("one", Limit(9), {}).ok());
    EXPECT_EQ(Seen(conversation), "^u:old|u:one|a:yes");
  }
}

TEST(ConversationTest, EndlessContextsGoOn) {
  FakeEngine engine;
  engine.context_ = 20;
  engine.endless = true;
  Conversation conversation(&engine, {}, {});
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(conversation.Say("again", Limit(9), {}).ok());
  }
  EXPECT_TRUE(conversation.endless());
  EXPECT_GT(conversation.session()->position(), 20);
}

// --- with a real engine ---

// Accepted, refused (too long), cancelled while it is read.
enum class Kind { kAccepted, kRefused, kCancelled };

std::vector<int> Told(Engine* engine, const std::string& kv,
                      std::span<const Kind> kinds) {
  Conversation conversation(engine, {.kv = kv, .context_size = 200},
                            {.name = "chatml"});
  int turn = 0;
  for (const Kind kind : kinds) {
    const std::string text = "ab cd" + std::string(turn, 'e');
    turn += kind == Kind::kAccepted ? 1 : 0;
    Result<Turn> result = Status();
    if (kind == Kind::kAccepted) {
      result = conversation.Say(text, Limit(3), {});
    } else if (kind == Kind::kRefused) {
      result = conversation.Say(std::string(500, 'z'), Limit(3), {});
      EXPECT_EQ(result.status().code(), StatusCode::kDoesNotFit);
    } else {
      result = conversation.Say(
          "never", Limit(3), [](int64_t done, int64_t) { return done == 0; });
    }
    EXPECT_EQ(result.ok(), kind == Kind::kAccepted)
        << result.status().message();
  }
  if (conversation.session() == nullptr) return {};
  const auto tokens = conversation.session()->tokens();
  const int kept =
      static_cast<int>(conversation.session()->Report().entries_kept);
  std::vector<int> all(tokens.begin(), tokens.end());
  all.push_back(kept);
  return all;
}

TEST(ConversationTest, OnlyAcceptedTurnsAreInTheSession) {
  TempFile model;
  ASSERT_TRUE(WriteTinyGguf({}, model.path()));
  const auto engine = Engine::Load({.model_path = model.path(), .threads = 1});
  ASSERT_TRUE(engine.ok());
  constexpr Kind kKinds[] = {Kind::kAccepted, Kind::kRefused, Kind::kCancelled};
  for (const char* kv : {"full", "snapkv,keep=0.5,window=4"}) {
    for (int order = 0; order < 27; ++order) {
      const std::vector<Kind> kinds = {kKinds[order % 3], kKinds[order / 3 % 3],
                                       kKinds[order / 9]};
      std::vector<Kind> accepted;
      for (const Kind kind : kinds) {
        if (kind == Kind::kAccepted) accepted.push_back(kind);
      }
      EXPECT_EQ(Told(engine->get(), kv, kinds),
                Told(engine->get(), kv, accepted))
          << kv << " " << order;
    }
  }
}

// Templates that write white space of their own around answers, or trim them.
TEST(ConversationTest, EveryTemplateReadsOnlyWhatIsNew) {
  TempFile model;
  ASSERT_TRUE(WriteTinyGguf({.context_length = 4096}, model.path()));
  const auto engine = Engine::Load({.model_path = model.path(), .threads = 1});
  ASSERT_TRUE(engine.ok());
  for (const char* name :
       {"chatml", "deepseek", "deepseek2", "gemma", "llama2", "llama3",
        "mistral-v1", "mistral-v3", "mistral-v3-tekken", "mistral-v7",
        "openchat", "phi3", "vicuna", "vicuna-orca", "zephyr"}) {
    Conversation conversation(engine->get(), {}, {.name = name});
    conversation.Reset("be brief");
    ASSERT_TRUE(conversation.Say("ab cd", Limit(5), {}).ok()) << name;
    const Session* const session = conversation.session();
    for (const char* text : {" ab ", "cd\n"}) {
      ASSERT_TRUE(conversation.Say(text, Limit(5), {}).ok()) << name;
      EXPECT_EQ(conversation.session(), session) << name;
    }
  }
}

}  // namespace
}  // namespace pyramidkv::cli
