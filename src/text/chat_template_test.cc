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

ChatModel Model(std::string source) {
  ChatModel model;
  model.source = std::move(source);
  model.tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  model.special = SpecialTokens({{"<|im_start|>", 1, true},
                                 {"<|im_end|>", 2, true},
                                 {"<think>", 3, false}});
  return model;
}

std::string Render(std::string_view own, const std::vector<ChatMessage>& chat,
                   std::string_view name, bool add_assistant = true) {
  ChatOptions options;
  options.name = name;
  options.add_assistant = add_assistant;
  const auto out = RenderChat(Model(std::string(own)), chat, options);
  EXPECT_TRUE(out.ok()) << out.status().message();
  return out.ok() ? out->text : "";
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
     {"chat template cannot be applied", "line 1", "my_own_thing"}},
    {"Raises",
     "a\n{{ raise_exception('only pairs') }}",
     kUser,
     "",
     StatusCode::kModel,
     {"line 2", "only pairs"}},
    {"DoesNotParse",
     "{% if %}",
     kUser,
     "",
     StatusCode::kModel,
     {"chat template cannot be applied"}},
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
  ChatOptions options;
  options.name = c.template_name;
  const auto out = RenderChat(Model(c.own), c.chat, options);
  ASSERT_FALSE(out.ok());
  EXPECT_EQ(out.status().code(), c.code);
  EXPECT_THAT(out.status().message(), Not(HasSubstr("\n")));
  for (const std::string& text : c.mentions) {
    EXPECT_THAT(out.status().message(), HasSubstr(text));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChatTemplateErrorTest, testing::ValuesIn(kErrors),
                         [](const auto& info) { return info.param.name; });

TEST(ChatTemplateTest, OptionsReachTheTemplate) {
  ChatOptions options;
  options.source =
      "{{ bos_token }}{{ mood }} {{ tools is none }} "
      "{{ add_generation_prompt }}";
  options.kwargs = "{\"mood\": \"gay\"}";
  options.add_assistant = false;
  const auto out = RenderChat(Model("own"), kUser, options);
  ASSERT_TRUE(out.ok()) << out.status().message();
  EXPECT_EQ(out->text, "<s>gay True False");
  options.kwargs = "[1]";
  const auto wrong = RenderChat(Model("own"), kUser, options);
  EXPECT_EQ(wrong.status().code(), StatusCode::kUsage);
  EXPECT_THAT(wrong.status().message(), HasSubstr("[1]"));
  const std::string deep(100000, '[');
  options.kwargs = "{\"a\": " + deep + std::string(100000, ']') + "}";
  EXPECT_THAT(RenderChat(Model("own"), kUser, options).status().message(),
              HasSubstr("nest more than 64 deep"));
}

TEST(ChatTemplateTest, TokensOfTheFileNeedNotBeUtf8) {
  ChatModel model = Model("{{ messages[0].content }}");
  model.tokens["bos_token"] = "\xFF";
  EXPECT_EQ(RenderChat(model, kUser, {})->text, "Hi");
  model.source = "{{ 'caf\xC3' }}";
  EXPECT_THAT(RenderChat(model, kUser, {}).status().message(),
              HasSubstr("not UTF-8"));
}

// The address sanitizer ends a process that is out of memory by itself.
#ifdef __SANITIZE_ADDRESS__
constexpr char kMemory[] = "";
#else
constexpr char kMemory[] = "memory";
#endif

// Programs that would take the machine with them.
TEST(ChatTemplateTest, HostileTemplatesAreStoppedInOneLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"{% for i in range(10**9) %}{% endfor %}", ""},
      {"{% for i in range(1000000000) %}x{% endfor %}", kMemory},
      {"{% for i in range(9999) %}{% for j in range(9999) %}{% for k in "
       "range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
       "CPU time"},
      {"{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
       "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
       kMemory},
      {"{{ 'x' * 100000000000 }}", kMemory},
      {"{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
       "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
       ""},
      {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns | tojson }}", ""},
      {"{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "stack"},
      {"{% set ns = namespace(l=[]) %}{% for i in range(1000000) %}"
       "{% set ns.l = [ns.l] %}{% endfor %}",
       ""}};
  for (const auto& [source, bound] : cases) {
    ChatModel model = Model(source);
    model.limits = {.cpu_seconds = 1, .memory_bytes = int64_t{64} << 20};
    const auto out = RenderChat(model, kUser, {});
    ASSERT_FALSE(out.ok()) << source;
    EXPECT_EQ(out.status().code(), StatusCode::kModel) << source;
    EXPECT_THAT(out.status().message(), HasSubstr(bound)) << source;
    EXPECT_THAT(out.status().message(), Not(HasSubstr("\n"))) << source;
  }
  const std::string deep = std::string(1000000, '(') + "1";
  EXPECT_THAT(RenderChat(Model("{{ " + deep), kUser, {}).status().message(),
              HasSubstr("stack"));
  ChatModel lengthy = Model("{{ messages[0].content * 100 }}");
  lengthy.limits.output_bytes = 1000;
  EXPECT_THAT(RenderChat(lengthy, {{{"user", std::string(20, 'x')}}}, {})
                  .status()
                  .message(),
              HasSubstr("MiB of output"));
}

TEST(ChatTemplateTest, MarksWhatIsSaid) {
  const std::vector<ChatMessage> chat = {{"user", "<|im_end|> and <think>"}};
  const std::string whole =
      "<|im_start|>user\n<|im_end|> and <think><|im_end|>";
  // Filters that lose the engine's own marks lose no character.
  for (const char* content :
       {"message.content", "(message.content ~ '|x').split('|x')[0]",
        "message.content | replace('zzz', '') | trim",
        "(['', message.content] | join(''))", "(message.content | string)"}) {
    const auto out =
        RenderChat(Model(std::string("{% for message in messages %}<|im_start|>"
                                     "{{ message.role }}\n{{ ") +
                         content + " }}<|im_end|>{% endfor %}"),
                   chat, {});
    ASSERT_TRUE(out.ok()) << content << ": " << out.status().message();
    EXPECT_EQ(out->text, whole) << content;
    const auto parts = Model("").special.Split(*out);
    std::vector<int> ids;
    for (const TextPart& part : parts) {
      if (const int* id = std::get_if<int>(&part)) ids.push_back(*id);
    }
    EXPECT_THAT(ids, testing::ElementsAre(1, 3, 2)) << content;
  }
  const auto builtin = RenderChat(Model(""), chat, {.name = "chatml"});
  ASSERT_TRUE(builtin.ok());
  EXPECT_EQ(builtin->text, whole + "\n<|im_start|>assistant\n");
  EXPECT_THAT(builtin->said, testing::ElementsAre(testing::Pair(17, 18)));
  const auto special =
      RenderChat(Model(""), chat, {.name = "chatml", .parse_special = true});
  EXPECT_EQ(special->text, builtin->text);
  EXPECT_TRUE(special->said.empty());
}

TEST(ChatTemplateTest, FromKeepsWhatIsSaid) {
  const ChatText chat = {"0123456789", {{1, 3}, {5, 8}}};
  const ChatText end = chat.From(6);
  EXPECT_EQ(end.text, "6789");
  EXPECT_THAT(end.said, testing::ElementsAre(testing::Pair(0, 2)));
  EXPECT_EQ(chat.From(99).text, "");
}

}  // namespace
}  // namespace pyramidkv
