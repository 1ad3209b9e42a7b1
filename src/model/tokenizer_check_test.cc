#include "model/tokenizer_check.h"

#include <gguf.h>

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"

namespace pyramidkv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Status Validate(const TinyGgufOptions& options) {
  TempFile temp;
  EXPECT_TRUE(WriteTinyGguf(options, temp.path()));
  const auto file = GgufFile::Open(temp.path());
  if (!file.ok()) return file.status();
  std::vector<std::string> warnings;
  return ValidateTokenizer(**file, &warnings);
}

// Those of a tokenizer that is accepted.
std::vector<std::string> Warnings(
    const std::function<void(gguf_context*)>& edit) {
  TinyGgufOptions options;
  options.edit_keys = edit;
  TempFile temp;
  EXPECT_TRUE(WriteTinyGguf(options, temp.path()));
  const auto file = GgufFile::Open(temp.path());
  std::vector<std::string> warnings;
  const Status status = ValidateTokenizer(**file, &warnings);
  EXPECT_TRUE(status.ok()) << status.message();
  return warnings;
}

std::string Refusal(const std::function<void(gguf_context*)>& edit) {
  TinyGgufOptions options;
  options.edit_keys = edit;
  const Status status = Validate(options);
  EXPECT_EQ(status.code(), StatusCode::kModel);
  return status.message();
}

void SetTokens(gguf_context* gguf, std::vector<const char*> tokens) {
  gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
  gguf_remove_key(gguf, "tokenizer.ggml.scores");
  gguf_remove_key(gguf, "tokenizer.ggml.token_type");
}

TEST(TokenizerCheckTest, Valid) {
  const Status status = Validate({});
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(TokenizerCheckTest, DuplicateTokens) {
  TinyGgufOptions options;
  options.duplicate_token = true;
  const Status status = Validate(options);
  EXPECT_EQ(status.code(), StatusCode::kModel);
  EXPECT_THAT(status.message(), HasSubstr("' twice, as 318 and 319"));
}

// libllama gives empty tokens a name, which another token may have.
TEST(TokenizerCheckTest, EmptyTokens) {
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                SetTokens(gguf, {"a", "", "[EMPTY_1]"});
              }),
              HasSubstr("token '[EMPTY_1]' twice, as 1 and 2"));
}

TEST(TokenizerCheckTest, Model) {
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_remove_key(gguf, "tokenizer.ggml.model");
              }),
              HasSubstr("tokenizer.ggml.model is missing"));
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_set_val_str(gguf, "tokenizer.ggml.model", "rwkv");
              }),
              HasSubstr("'rwkv' is not supported; supported: llama, gpt2"));
}

TEST(TokenizerCheckTest, Tokens) {
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_set_val_str(gguf, "tokenizer.ggml.tokens", "a b c");
              }),
              HasSubstr("expected array of str"));
  EXPECT_THAT(Refusal([](gguf_context* gguf) { SetTokens(gguf, {}); }),
              HasSubstr("tokenizer.ggml.tokens is empty"));
}

// As libllama, which passes over both.
TEST(TokenizerCheckTest, HarmlessFaultsAreWarnings) {
  EXPECT_THAT(Warnings([](gguf_context*) {}), IsEmpty());
  EXPECT_THAT(
      Warnings([](gguf_context* gguf) {
        gguf_set_val_u32(gguf, "tokenizer.ggml.eos_token_id", 320);
        gguf_set_val_u32(gguf, "tokenizer.ggml.padding_token_id", 4000000000);
      }),
      ElementsAre(HasSubstr("eos_token_id is 320, outside the vocabulary of "
                            "320 tokens: it is ignored"),
                  HasSubstr("padding_token_id is 4000000000")));
  const std::vector<std::string> warnings = Warnings([](gguf_context* gguf) {
    SetTokens(gguf, {"a", "b", "c"});
  });
  ASSERT_FALSE(warnings.empty());
  EXPECT_THAT(warnings[0],
              HasSubstr("has no token <0x00> nor those of 252 more bytes"));
}

TEST(TokenizerCheckTest, ArraysBesideTheTokens) {
  const std::vector<float> floats(320);
  const std::vector<int32_t> bytes(320, 6);
  EXPECT_THAT(Refusal([&](gguf_context* gguf) {
                gguf_set_arr_data(gguf, "tokenizer.ggml.scores",
                                  GGUF_TYPE_FLOAT32, floats.data(), 319);
              }),
              HasSubstr("has 319 values for 320 tokens"));
  EXPECT_THAT(Refusal([&](gguf_context* gguf) {
                gguf_set_arr_data(gguf, "tokenizer.ggml.token_type",
                                  GGUF_TYPE_FLOAT32, floats.data(), 320);
              }),
              HasSubstr("expected array of i32"));
  EXPECT_THAT(Refusal([&](gguf_context* gguf) {
                gguf_set_arr_data(gguf, "tokenizer.ggml.token_type",
                                  GGUF_TYPE_INT32, bytes.data(), 320);
              }),
              HasSubstr("token 0 ('<unk>') is of type byte"));
}

TEST(TokenizerCheckTest, Merges) {
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_set_val_str(gguf, "tokenizer.ggml.model", "gpt2");
              }),
              HasSubstr("tokenizer.ggml.merges is missing"));
}

TEST(TokenizerCheckTest, IdsAndSettings) {
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_set_val_str(gguf, "tokenizer.ggml.eos_token_id", "2");
              }),
              HasSubstr("eos_token_id"));
  EXPECT_THAT(Refusal([](gguf_context* gguf) {
                gguf_set_val_u32(gguf, "tokenizer.ggml.add_bos_token", 1);
              }),
              HasSubstr("add_bos_token has type u32, expected bool"));
}

}  // namespace
}  // namespace pyramidkv
