#include "text/chat_template.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kSmolTemplate =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != "
    "'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named "
    "SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}";

const std::vector<ChatMessage> kUser = {{"user", "Hi"}};
const std::vector<ChatMessage> kSystemFirst = {{"system", "Be brief."},
                                               {"user", "Hi"},
                                               {"assistant", "Hello."},
                                               {"user", "Bye"}};

std::string Render(std::string_view own, const std::vector<ChatMessage>& chat,
                   std::string_view name, bool add_assistant = true) {
  const auto out = RenderChat(own, chat, name, add_assistant);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? *out : "";
}

TEST(ChatTemplateTest, SmolSystemMessageOnlyWhereItsTemplateAddsIt) {
  EXPECT_THAT(Render(kSmolTemplate, kUser, ""),
              StartsWith("<|im_start|>system\nYou are a helpful AI assistant "
                         "named SmolLM, trained by Hugging Face<|im_end|>\n"
                         "<|im_start|>user\nHi"));
  EXPECT_THAT(Render(kSmolTemplate, kSystemFirst, ""),
              Not(HasSubstr("SmolLM")));
  EXPECT_THAT(Render(kSmolTemplate, kUser, "chatml"), Not(HasSubstr("SmolLM")));
  EXPECT_EQ(Render(kSmolTemplate, {}, "", false), "");
}

TEST(ChatTemplateTest, BuiltinByName) {
  EXPECT_EQ(Render("", kSystemFirst, "chatml"),
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n"
            "<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_THAT(Render("", kUser, "llama3"),
              StartsWith("<|start_header_id|>user<|end_header_id|>"));
  EXPECT_THAT(Render("", kUser, "chatml", false), Not(HasSubstr("assistant")));
  EXPECT_THAT(BuiltinChatTemplates(), Contains("gemma"));
}

TEST(ChatTemplateTest, LongMessagesFit) {
  const std::string text(100000, 'x');
  EXPECT_EQ(Render("", {{"user", text}}, "chatml", false),
            "<|im_start|>user\n" + text + "<|im_end|>\n");
  const std::vector<ChatMessage> many(500, {"user", ""});
  EXPECT_EQ(Render("", many, "chatml", false).size(),
            500 * std::string("<|im_start|>user\n<|im_end|>\n").size());
}

struct ErrorCase {
  const char* name;
  std::string own;
  std::vector<ChatMessage> chat;
  std::string template_name;
  StatusCode code;
  std::vector<std::string> mentions;
};

const ErrorCase kErrors[] = {
    {"UnknownName",
     "",
     kUser,
     "nope",
     StatusCode::kUsage,
     {"\"nope\"", "chatml, ", "llama3"}},
    {"NoTemplate",
     "",
     kUser,
     "",
     StatusCode::kModel,
     {"no chat template", "--chat-template NAME", "chatml"}},
    {"UnknownTemplate",
     "{{ messages | my_own_thing }}",
     kUser,
     "",
     StatusCode::kModel,
     {"--chat-template NAME", "chatml"}},
    {"Role",
     "",
     {{"user", "a"}, {"wizard", "b"}},
     "chatml",
     StatusCode::kUsage,
     {"message 1", "\"wizard\"", "assistant"}},
    {"Nul",
     "",
     {{"user", std::string("a\0b", 3)}},
     "chatml",
     StatusCode::kUsage,
     {"NUL", "offset 1"}},
};

class ChatTemplateErrorTest : public testing::TestWithParam<ErrorCase> {};

TEST_P(ChatTemplateErrorTest, SaysWhatIsWrongAndWhatWouldBeRight) {
  const ErrorCase& c = GetParam();
  const auto out = RenderChat(c.own, c.chat, c.template_name, true);
  ASSERT_FALSE(out.ok());
  EXPECT_EQ(out.status().code(), c.code);
  for (const std::string& text : c.mentions) {
    EXPECT_THAT(out.status().message(), HasSubstr(text));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChatTemplateErrorTest, testing::ValuesIn(kErrors),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pyramidkv
