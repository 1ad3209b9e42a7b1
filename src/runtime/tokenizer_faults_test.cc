// Tokenizers of files that say what they should not, from the file to the
// answer.

#include <gguf.h>

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"
#include "pyramidkv/engine.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kBos = 1, kEos = 2;

using Edit = std::function<void(gguf_context*)>;

Result<std::unique_ptr<Engine>> Load(const Edit& edit) {
  TinyGgufOptions options;
  options.edit_keys = edit;
  TempFile temp;
  EXPECT_TRUE(WriteTinyGguf(options, temp.path()));
  return Engine::Load({.model_path = temp.path(), .threads = 1});
}

// "a", "b" ... without byte tokens, as many as the embedding has.
void DropByteTokens(gguf_context* gguf) {
  std::vector<std::string> names = {"<unk>", "<s>", "</s>", "\xe2\x96\x81"};
  for (int i = 4; i < 320; ++i) names.push_back("w" + std::to_string(i));
  names[4] = "a";
  std::vector<const char*> texts;
  for (const std::string& name : names) texts.push_back(name.c_str());
  std::vector<int32_t> types(320, 1);
  types[0] = 2;
  types[1] = types[2] = 3;
  gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", texts.data(), texts.size());
  gguf_set_arr_data(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32,
                    types.data(), types.size());
}

TEST(TokenizerFaultsTest, IdsOutsideTheVocabularyAreIgnored) {
  const auto engine = Load([](gguf_context* gguf) {
    gguf_set_val_u32(gguf, "tokenizer.ggml.eos_token_id", 320);
    gguf_set_val_u32(gguf, "tokenizer.ggml.padding_token_id", 99999);
  });
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_THAT((*engine)->warnings(),
              ElementsAre(HasSubstr("eos_token_id is 320"),
                          HasSubstr("padding_token_id is 99999")));
  EXPECT_TRUE((*engine)->IsEndOfGeneration(kEos));  // libllama's own
  EXPECT_FALSE((*engine)->IsEndOfGeneration(320));
}

TEST(TokenizerFaultsTest, TextNeedsByteTokensOnlyWhereItDoes) {
  const auto engine = Load(DropByteTokens);
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_THAT((*engine)->warnings(),
              ElementsAre(HasSubstr("has no token <0x00>")));
  const auto known = (*engine)->Tokenize("a", {});
  ASSERT_TRUE(known.ok()) << known.status().message();
  EXPECT_THAT(*known, ElementsAre(kBos, 3, 4));
  const auto unknown = (*engine)->Tokenize("a!", {});
  EXPECT_EQ(unknown.status().code(), StatusCode::kModel);
  EXPECT_THAT(unknown.status().message(), HasSubstr("no tokens for"));
}

TEST(TokenizerFaultsTest, VocabulariesThatAreTooSmallAreRefused) {
  for (const int size : {1, 2, 3, 319}) {
    const auto engine = Load([size](gguf_context* gguf) {
      std::vector<std::string> names;
      for (int i = 0; i < size; ++i) names.push_back("t" + std::to_string(i));
      std::vector<const char*> texts;
      for (const std::string& name : names) texts.push_back(name.c_str());
      gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", texts.data(),
                       texts.size());
      gguf_remove_key(gguf, "tokenizer.ggml.scores");
      gguf_remove_key(gguf, "tokenizer.ggml.token_type");
    });
    ASSERT_FALSE(engine.ok()) << size;
    EXPECT_EQ(engine.status().code(), StatusCode::kModel);
  }
}

TEST(TokenizerFaultsTest, OneBosAndNoEos) {
  const auto engine = Load([](gguf_context* gguf) {
    gguf_set_val_bool(gguf, "tokenizer.ggml.add_bos_token", true);
    gguf_set_val_bool(gguf, "tokenizer.ggml.add_eos_token", true);
    gguf_set_val_str(gguf, "tokenizer.chat_template",
                     "{{ bos_token }}{% for m in messages %}{{ m.content }}"
                     "{{ eos_token }}{% endfor %}a");
  });
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_THAT((*engine)->warnings(), IsEmpty());
  const std::vector<int> plain = *(*engine)->Tokenize("ab", {});
  EXPECT_EQ(plain.front(), kBos);
  EXPECT_NE(plain.back(), kEos);
  EXPECT_EQ(*(*engine)->Tokenize("<s>ab", {}), plain);
  EXPECT_THAT(*(*engine)->Tokenize("<s>", {}), ElementsAre(kBos));
  EXPECT_THAT(*(*engine)->Tokenize("", {}), ElementsAre(kBos));
  // Where it is text, BOS stands before it.
  const std::vector<int> text =
      *(*engine)->Tokenize("<s>", {.parse_special = false});
  EXPECT_EQ(text.front(), kBos);
  EXPECT_GT(text.size(), 2u);

  const std::vector<ChatMessage> messages = {{"user", "b"}};
  const auto chat = (*engine)->RenderChat(messages, {});
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  EXPECT_EQ(chat->text, "<s>b</s>a");
  const std::vector<int> ids = *(*engine)->TokenizeChat(*chat, true);
  EXPECT_EQ(ids, *(*engine)->Tokenize("<s>b</s>a", {}));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kBos), 1);
  EXPECT_NE(ids.back(), kEos);
}

// A control token shows no text; the stop string is its name.
TEST(TokenizerFaultsTest, StopStringsCanNameControlTokens) {
  const auto engine = Load([](gguf_context*) {});
  ASSERT_TRUE(engine.ok());
  const auto session = (*engine)->NewSession({});
  ASSERT_TRUE(session.ok());
  ASSERT_TRUE((*session)->Read(*(*engine)->Tokenize("a b", {}), {}).ok());
  const int a = (*engine)->Tokenize("a", {.add_special = false})->back();
  const auto answer = (*session)->Generate(
      {.max_tokens = 9, .stop = {"<s>"}, .forced = {a, kBos, a}});
  ASSERT_TRUE(answer.ok()) << answer.status().message();
  EXPECT_EQ(answer->finish_reason, "stop");
  EXPECT_EQ(answer->text, " a");
}

}  // namespace
}  // namespace pyramidkv
