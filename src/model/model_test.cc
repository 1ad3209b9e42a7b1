#include "model/model.h"

#include <ggml.h>
#include <gguf.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;

Result<std::unique_ptr<Model>> LoadTiny(const TinyGgufOptions& options) {
  TempFile file;  // a mapping outlives the name
  EXPECT_TRUE(WriteTinyGguf(options, file.path()));
  return Model::Load(file.path());
}

std::string Refusal(const TinyGgufOptions& options) {
  const auto model = LoadTiny(options);
  EXPECT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), StatusCode::kModel);
  return model.status().message();
}

TEST(ModelTest, DefaultModel) {
  const std::string path =
      std::string(PYRAMIDKV_SOURCE_DIR) + "/models/default.gguf";
  const auto model = Model::Load(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const HyperParams& p = (*model)->params();
  EXPECT_EQ(p.architecture, "llama");
  EXPECT_EQ(p.layers, 30);
  EXPECT_EQ(p.embedding, 576);
  EXPECT_EQ(p.heads, 9);
  EXPECT_EQ(p.kv_heads, 3);
  EXPECT_EQ(p.head_dim, 64);
  EXPECT_EQ(p.feed_forward, 1536);
  EXPECT_EQ(p.vocabulary, 49152);
  EXPECT_EQ(p.context_length, 8192);
  EXPECT_EQ(p.rope.dims, 64);
  EXPECT_FLOAT_EQ(p.rope.inv_freq[16], std::pow(100000.0f, -0.5f));
  EXPECT_FLOAT_EQ(p.attention_scale, 0.125f);
  EXPECT_EQ((*model)->layers().size(), 30u);
  EXPECT_EQ((*model)->output().data, (*model)->token_embedding().data);
  EXPECT_EQ((*model)->layers()[29].q.type, GGML_TYPE_Q4_1);
  EXPECT_EQ((*model)->parameters(), 134515008);
  EXPECT_EQ((*model)->file_bytes(), 98362432);
}

TEST(ModelTest, TinyShapes) {
  TinyGgufOptions options;
  options.head_dim = 24;
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ((*model)->token_embedding().rows, 320);
  EXPECT_EQ((*model)->token_embedding().cols, 64);
  EXPECT_EQ((*model)->output().data, (*model)->token_embedding().data);
  EXPECT_EQ((*model)->output_norm().size(), 64u);
  const LayerWeights& w = (*model)->layers()[1];
  EXPECT_EQ(w.attn_norm.size(), 64u);
  EXPECT_NEAR(w.attn_norm[0], 1.0f, 0.6f);
  EXPECT_EQ(w.q.rows, 4 * 24);
  EXPECT_EQ(w.k.rows, 2 * 24);
  EXPECT_EQ(w.output.rows, 64);
  EXPECT_EQ(w.output.cols, 4 * 24);
  EXPECT_EQ(w.down.rows, 64);
  EXPECT_EQ(w.down.cols, 96);
  EXPECT_EQ(w.down.row_bytes, 96u * 4);
  EXPECT_TRUE(w.q_bias.empty());
  EXPECT_TRUE(w.down_bias.empty());
}

TEST(ModelTest, OptionalTensors) {
  TinyGgufOptions options;
  options.biases = true;
  options.tied_output = false;
  options.rope_freq_factors = {1, 1, 1, 1, 2, 4, 8, 8};
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_NE((*model)->output().data, (*model)->token_embedding().data);
  const LayerWeights& w = (*model)->layers()[0];
  EXPECT_EQ(w.q_bias.size(), 64u);
  EXPECT_EQ(w.v_bias.size(), 32u);
  EXPECT_EQ(w.output_bias.size(), 64u);
  EXPECT_EQ(w.up_bias.size(), 96u);
  EXPECT_EQ(w.down_bias.size(), 64u);
  const Rope& rope = (*model)->params().rope;
  EXPECT_FLOAT_EQ(rope.inv_freq[0], 1.0f);
  EXPECT_FLOAT_EQ(rope.inv_freq[4], 0.01f / 2);
}

TEST(ModelTest, Qwen2HasBiases) {
  TinyGgufOptions options;
  options.architecture = "qwen2";
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ((*model)->params().rope.layout, Rope::Layout::kNeox);
  const LayerWeights& w = (*model)->layers()[1];
  EXPECT_EQ(w.q_bias.size(), 64u);
  EXPECT_EQ(w.k_bias.size(), 32u);
  EXPECT_EQ(w.v_bias.size(), 32u);
  EXPECT_TRUE(w.output_bias.empty());
  EXPECT_TRUE(w.q_norm.empty());
}

TEST(ModelTest, Qwen3HasHeadNorms) {
  TinyGgufOptions options;
  options.architecture = "qwen3";
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ((*model)->params().rope.layout, Rope::Layout::kNeox);
  const LayerWeights& w = (*model)->layers()[1];
  EXPECT_TRUE(w.q_bias.empty());
  EXPECT_EQ(w.q_norm.size(), 16u);
  EXPECT_EQ(w.k_norm.size(), 16u);
  options.drop_tensor = "blk.1.attn_k_norm.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("attn_k_norm.weight is missing"));
}

TEST(ModelTest, Gemma3HasNormsBehind) {
  TinyGgufOptions options;
  options.architecture = "gemma3";
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ((*model)->output().data, (*model)->token_embedding().data);
  const LayerWeights& w = (*model)->layers()[1];
  EXPECT_EQ(w.q_norm.size(), 16u);
  EXPECT_EQ(w.attn_post_norm.size(), 64u);
  EXPECT_EQ(w.ffn_post_norm.size(), 64u);
  for (const char* name :
       {"blk.0.post_attention_norm.weight", "blk.1.post_ffw_norm.weight"}) {
    options.drop_tensor = name;
    EXPECT_THAT(Refusal(options), HasSubstr(name));
  }
}

TinyGgufOptions Phi3() {
  TinyGgufOptions options;
  options.architecture = "phi3";
  options.rope_factor_pair = true;
  return options;
}

TEST(ModelTest, Phi3SharesTensors) {
  TinyGgufOptions options = Phi3();
  options.weight_type = GGML_TYPE_Q8_0;
  options.biases = true;
  const auto model = LoadTiny(options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const LayerWeights& w = (*model)->layers()[1];
  EXPECT_EQ(w.q.rows, 64);
  EXPECT_EQ(w.k.rows, 32);
  EXPECT_EQ(w.v.rows, 32);
  EXPECT_EQ(w.k.data, w.q.row(64));
  EXPECT_EQ(w.v.data, w.q.row(96));
  EXPECT_EQ(w.v.row_bytes, ggml_row_size(GGML_TYPE_Q8_0, 64));
  EXPECT_EQ(w.gate.rows, 96);
  EXPECT_EQ(w.up.rows, 96);
  EXPECT_EQ(w.up.data, w.gate.row(96));
  EXPECT_EQ(w.q_bias.size(), 64u);
  EXPECT_EQ(w.v_bias.size(), 32u);
  EXPECT_EQ(w.up_bias.size(), 96u);
  EXPECT_NE(w.gate_bias, w.up_bias);
  options.widen_tensor = "blk.0.attn_qkv.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("[129, 64], expected [128, 64]"));
}

// The model's context decides: 256 tokens, of which 64 were there first.
TEST(ModelTest, Phi3ChoosesRopeFactors) {
  TinyGgufOptions options = Phi3();
  const auto frequency = [&] {  // of the last pair
    const auto model = LoadTiny(options);
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.ok() ? (*model)->params().rope.inv_freq[7] : 0;
  };
  const float plain = std::pow(10000.0f, -7.0f / 8);
  EXPECT_NEAR(plain / frequency(), 1.2f, 0.5f);  // factors have a spread of 0.1
  options.rope_original_context = 64;
  options.rope_scaling = "longrope";
  EXPECT_NEAR(plain / frequency(), 4.0f, 0.5f);
  options.rope_original_context = 256;
  EXPECT_NEAR(plain / frequency(), 1.2f, 0.5f);
}

TEST(ModelRefusalTest, HalfAPairOfRopeFactors) {
  TinyGgufOptions options = Phi3();
  options.drop_tensor = "rope_factors_short.weight";
  EXPECT_THAT(Refusal(options),
              HasSubstr("tensor rope_factors_short.weight is missing, "
                        "rope_factors_long.weight is there"));
  options.drop_tensor.clear();
  options.widen_tensor = "rope_factors_long.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("rope_factors_long.weight has the "
                                          "shape [9], expected [8]"));
}

TEST(ModelTest, WeightTypes) {
  TinyGgufOptions options;
  for (ggml_type type :
       {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
        GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL}) {
    SCOPED_TRACE(ggml_type_name(type));
    options.weight_type = type;
    const auto model = LoadTiny(options);
    ASSERT_TRUE(model.ok()) << model.status().message();
    const WeightMatrix& up = (*model)->layers()[0].up;
    EXPECT_EQ(up.type, type);
    EXPECT_EQ(up.row_bytes, ggml_row_size(type, up.cols));
  }
  options.weight_type = GGML_TYPE_Q6_K;
  options.embedding = 256;
  options.head_dim = 64;
  options.feed_forward = 512;
  EXPECT_TRUE(LoadTiny(options).ok());
}

TEST(ModelTest, OldRotaryTensorsAreIgnored) {
  TinyGgufOptions options;
  options.extra_tensor = "blk.0.attn_rot_embd";
  EXPECT_TRUE(LoadTiny(options).ok());
}

TEST(ModelRefusalTest, MissingTensor) {
  TinyGgufOptions options;
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
        "blk.1.attn_k.weight", "blk.1.ffn_down.weight"}) {
    options.drop_tensor = name;
    EXPECT_THAT(Refusal(options),
                HasSubstr("tensor " + std::string(name) + " is missing"));
  }
}

TEST(ModelRefusalTest, WrongShape) {
  TinyGgufOptions options;
  options.widen_tensor = "blk.1.attn_k.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("tensor blk.1.attn_k.weight has the "
                                          "shape [33, 64], expected [32, 64]"));
  options.widen_tensor = "blk.0.ffn_norm.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("has the shape [65], expected [64]"));
  options.widen_tensor = "token_embd.weight";
  EXPECT_THAT(Refusal(options), HasSubstr("[321, 64], expected [320, 64]"));
}

TEST(ModelRefusalTest, TensorType) {
  TinyGgufOptions options;
  options.integer_tensor = "blk.0.ffn_up.weight";
  EXPECT_THAT(Refusal(options),
              HasSubstr("tensor blk.0.ffn_up.weight has the type i32"));
}

TEST(ModelRefusalTest, UnknownTensor) {
  TinyGgufOptions options;
  options.extra_tensor = "blk.0.attn_q_norm.weight";
  EXPECT_THAT(Refusal(options),
              HasSubstr("blk.0.attn_q_norm.weight is not supported"));
  options.extra_tensor = "blk.2.attn_norm.weight";  // beyond block_count
  EXPECT_THAT(Refusal(options), HasSubstr("with 2 layers has no place"));
}

TEST(ModelRefusalTest, RopeFactors) {
  TinyGgufOptions options;
  options.rope_freq_factors = {1, 1, 1, 1, 2, 4, 8, 0};
  EXPECT_THAT(Refusal(options), HasSubstr("rope_freqs.weight has the factor"));
  options.rope_freq_factors = {1, 1};
  EXPECT_THAT(Refusal(options), HasSubstr("has the shape [2], expected [8]"));
}

// Where an architecture has no place for them they are a foreign tensor.
TEST(ModelRefusalTest, RopeFactorsOfAnotherArchitecture) {
  TinyGgufOptions options;
  options.architecture = "qwen3";
  options.rope_freq_factors = {1, 1, 1, 1, 2, 4, 8, 8};
  EXPECT_THAT(Refusal(options), HasSubstr("rope_freqs.weight is not supp"));
}

TEST(ModelRefusalTest, DuplicateTokens) {
  TinyGgufOptions options;
  options.duplicate_token = true;
  EXPECT_THAT(Refusal(options), HasSubstr("twice"));
}

TEST(ModelRefusalTest, KeyOfAWrongType) {
  TinyGgufOptions options;
  options.edit_keys = [](gguf_context* gguf) {
    gguf_set_val_str(gguf, "llama.attention.head_count", "four");
  };
  EXPECT_THAT(Refusal(options),
              HasSubstr("llama.attention.head_count has type str"));
}

}  // namespace
}  // namespace pyramidkv
