#include "model/hyper_params.h"

#include <gguf.h>

#include <cmath>
#include <functional>
#include <ostream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/testing/temp_file.h"
#include "model/testing/tiny_gguf.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;
using Edit = std::function<void(gguf_context*)>;

Result<HyperParams> Params(const TinyGgufOptions& options) {
  TempFile file;
  EXPECT_TRUE(WriteTinyGguf(options, file.path()));
  return ReadHyperParams(file.path());
}

TinyGgufOptions Gemma3() {
  TinyGgufOptions options;
  options.architecture = "gemma3";
  options.layers = 7;
  options.sliding_window = 32;
  return options;
}

Result<HyperParams> Gemma3With(const Edit& edit) {
  TinyGgufOptions options = Gemma3();
  options.edit_keys = edit;
  return Params(options);
}

Result<HyperParams> Params(const Edit& edit) {
  TinyGgufOptions options;
  options.edit_keys = edit;
  return Params(options);
}

std::string Refusal(const Edit& edit) {
  const auto params = Params(edit);
  EXPECT_FALSE(params.ok());
  EXPECT_EQ(params.status().code(), StatusCode::kModel);
  return params.status().message();
}

TEST(HyperParamsTest, Tiny) {
  TinyGgufOptions options;
  options.sliding_window = 32;
  const auto p = Params(options);
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->architecture, "llama");
  EXPECT_EQ(p->name, "tiny");
  EXPECT_EQ(p->layers, 2);
  EXPECT_EQ(p->embedding, 64);
  EXPECT_EQ(p->heads, 4);
  EXPECT_EQ(p->kv_heads, 2);
  EXPECT_EQ(p->group(), 2);
  EXPECT_EQ(p->head_dim, 16);
  EXPECT_EQ(p->feed_forward, 96);
  EXPECT_EQ(p->vocabulary, 320);
  EXPECT_EQ(p->context_length, 256);
  EXPECT_EQ(p->sliding_window, 32);
  EXPECT_FLOAT_EQ(p->rms_epsilon, 1e-5f);
  EXPECT_FLOAT_EQ(p->attention_scale, 0.25f);
  EXPECT_EQ(p->rope.dims, 16);
}

TEST(HyperParamsTest, Defaults) {
  const auto p = Params([](gguf_context* gguf) {
    for (const char* key :
         {"general.name", "llama.attention.head_count_kv",
          "llama.attention.key_length", "llama.attention.value_length",
          "llama.rope.dimension_count", "llama.rope.freq_base",
          "llama.vocab_size"}) {
      gguf_remove_key(gguf, key);
    }
  });
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_THAT(p->name, HasSubstr("pyramidkv_"));  // the file's stem
  EXPECT_EQ(p->kv_heads, 4);
  EXPECT_EQ(p->head_dim, 16);
  EXPECT_EQ(p->rope.dims, 16);
  EXPECT_FLOAT_EQ(p->rope.inv_freq[4], 0.01f);
  EXPECT_EQ(p->vocabulary, 320);
}

TEST(HyperParamsTest, AttentionScale) {
  const auto p = Params([](gguf_context* gguf) {
    gguf_set_val_f32(gguf, "llama.attention.scale", 0.5f);
  });
  EXPECT_FLOAT_EQ(p->attention_scale, 0.5f);
}

// llama.cpp reads every layer of a Qwen whole, whatever the key says.
TEST(HyperParamsTest, QwenHasNoWindow) {
  TinyGgufOptions options;
  options.architecture = "qwen2";
  options.sliding_window = 32;
  const auto p = Params(options);
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->architecture, "qwen2");
  EXPECT_EQ(p->sliding_window, 0);
}

TEST(HyperParamsTest, Gemma3) {
  const auto p = Params(Gemma3());
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->block.activation, Activation::kGelu);
  EXPECT_FLOAT_EQ(p->embedding_scale, 8);
  EXPECT_FLOAT_EQ(p->attention_scale, 0.25f);
  EXPECT_EQ(p->final_softcap, 0);
  EXPECT_EQ(p->window_layers,
            (std::vector<bool>{true, true, true, true, true, false, true}));
  EXPECT_EQ(p->window(4), 32);
  EXPECT_EQ(p->window(5), 0);
  EXPECT_EQ(&p->rope_of(4), &p->rope_local);
  EXPECT_EQ(&p->rope_of(5), &p->rope);
}

TEST(HyperParamsTest, Gemma3Ropes) {
  const auto p = Gemma3With([](gguf_context* gguf) {
    gguf_set_val_f32(gguf, "gemma3.rope.freq_base", 1e6f);
    gguf_set_val_f32(gguf, "gemma3.rope.scaling.factor", 8);
  });
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->rope_local.layout, Rope::Layout::kNeox);
  EXPECT_FLOAT_EQ(p->rope.inv_freq[0], 0.125f);
  EXPECT_FLOAT_EQ(p->rope.inv_freq[4], 0.001f / 8);
  EXPECT_FLOAT_EQ(p->rope_local.inv_freq[0], 1);
  EXPECT_FLOAT_EQ(p->rope_local.inv_freq[4], 0.01f);
  const auto base = Gemma3With([](gguf_context* gguf) {
    gguf_set_val_f32(gguf, "gemma3.rope.freq_base_swa", 1e4f / 16);
  });
  EXPECT_FLOAT_EQ(base->rope_local.inv_freq[4], 0.04f);
}

TEST(HyperParamsTest, WindowPattern) {
  const auto every = [](uint32_t distance) {
    return Gemma3With([distance](gguf_context* gguf) {
      gguf_set_val_u32(gguf, "gemma3.attention.sliding_window_pattern",
                       distance);
    });
  };
  EXPECT_EQ(every(3)->window_layers,
            (std::vector<bool>{true, true, false, true, true, false, true}));
  EXPECT_EQ(every(1)->window_layers, std::vector<bool>(7, false));
  const auto all = every(0);
  EXPECT_TRUE(all->window_layers.empty());
  EXPECT_EQ(all->window(6), 32);
  EXPECT_EQ(&all->rope_of(6), &all->rope_local);
  const auto flags = Gemma3With([](gguf_context* gguf) {
    const bool values[] = {false, true, false, true, true, true, false};
    gguf_set_arr_data(gguf, "gemma3.attention.sliding_window_pattern",
                      GGUF_TYPE_BOOL, values, 7);
  });
  ASSERT_TRUE(flags.ok()) << flags.status().message();
  EXPECT_EQ(flags->window_layers,
            (std::vector<bool>{false, true, false, true, true, true, false}));
}

TEST(HyperParamsTest, Gemma3WithoutWindow) {
  TinyGgufOptions options = Gemma3();
  options.sliding_window = 0;
  const auto p = Params(options);
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->window(0), 0);
  EXPECT_EQ(&p->rope_of(0), &p->rope);
}

// The 27B model is known by its number of layers.
TEST(HyperParamsTest, Gemma3AttentionScale) {
  TinyGgufOptions options = Gemma3();
  options.head_dim = 64;
  EXPECT_FLOAT_EQ(Params(options)->attention_scale, 1.0f / 8);
  options.layers = 62;
  EXPECT_FLOAT_EQ(Params(options)->attention_scale, 1.0f / 4);  // 64 / 4
}

TEST(HyperParamsTest, FinalSoftCap) {
  const auto cap = [](float value) {
    return Gemma3With([value](gguf_context* gguf) {
      gguf_set_val_f32(gguf, "gemma3.final_logit_softcapping", value);
    });
  };
  EXPECT_EQ(cap(0)->final_softcap, 0);
  EXPECT_EQ(cap(30)->final_softcap, 30);
  EXPECT_THAT(cap(0x1p-30f).status().message(),
              HasSubstr("gemma3.final_logit_softcapping is 9.31"));
  EXPECT_THAT(cap(-1).status().message(), HasSubstr("is -1, expected 0 to"));
}

TEST(HyperParamsTest, ValuesPerLayer) {
  const auto set = [](const char* key, int second) {
    return [key, second](gguf_context* gguf) {
      const int32_t values[] = {2, second};
      gguf_set_arr_data(gguf, key, GGUF_TYPE_INT32, values, 2);
    };
  };
  const auto p = Params(set("llama.attention.head_count_kv", 2));
  ASSERT_TRUE(p.ok()) << p.status().message();
  EXPECT_EQ(p->kv_heads, 2);
  EXPECT_THAT(Refusal(set("llama.attention.head_count_kv", 4)),
              HasSubstr("layers that differ are not supported"));
}

TEST(HyperParamsTest, RopeScalings) {
  TinyGgufOptions options;
  options.head_dim = 32;
  options.rope_factor = 4;
  options.rope_original_context = 64;
  options.rope_scaling = "none";
  EXPECT_FLOAT_EQ(Params(options)->rope.inv_freq[0], 1.0f);
  options.rope_scaling = "linear";
  EXPECT_FLOAT_EQ(Params(options)->rope.inv_freq[0], 0.25f);
  options.rope_scaling = "yarn";
  EXPECT_FLOAT_EQ(Params(options)->rope.inv_freq[0], 1.0f);
  EXPECT_NEAR(Params(options)->rope.inv_freq[1], 0.47799013, 1e-7);
  EXPECT_NEAR(Params(options)->rope.magnitude, 1.1386294, 1e-6);
}

TEST(HyperParamsTest, RopeKeys) {
  const auto alias = Params([](gguf_context* gguf) {
    gguf_set_val_f32(gguf, "llama.rope.scale_linear", 4);
  });
  EXPECT_FLOAT_EQ(alias->rope.inv_freq[0], 0.25f);
  const auto linear = Params([](gguf_context* gguf) {
    gguf_set_val_f32(gguf, "llama.rope.scaling.attn_factor", 1.5f);
  });
  EXPECT_FLOAT_EQ(linear->rope.magnitude, 1.5f);
}

// Files that spell out YaRN's defaults compute what those without do, and no
// architecture here reads others.
TEST(HyperParamsTest, YarnIsAppliedOnce) {
  const auto yarn = [](bool spelt_out) {
    return *Params([spelt_out](gguf_context* gguf) {
      const auto set = [gguf](const char* key, float value) {
        gguf_set_val_f32(
            gguf, (std::string("llama.rope.scaling.") + key).c_str(), value);
      };
      gguf_set_val_str(gguf, "llama.rope.scaling.type", "yarn");
      set("factor", 4);
      set("attn_factor", 1.5f);
      if (!spelt_out) return;
      set("yarn_attn_factor", 1.1386294f);
      set("yarn_ext_factor", 0);
      set("yarn_beta_fast", 16);
      set("yarn_beta_slow", 2);
    });
  };
  EXPECT_EQ(yarn(true).rope.inv_freq, yarn(false).rope.inv_freq);
  EXPECT_EQ(yarn(true).rope.magnitude, yarn(false).rope.magnitude);
  EXPECT_NEAR(yarn(true).rope.magnitude, 1.5 * 1.1386294, 1e-6);
}

struct RefusalCase {
  const char* name;
  Edit edit;
  const char* message;
};

void PrintTo(const RefusalCase& c, std::ostream* out) { *out << c.name; }

class Gemma3RefusalTest : public ::testing::TestWithParam<RefusalCase> {};

TEST_P(Gemma3RefusalTest, SaysWhy) {
  const auto params = Gemma3With(GetParam().edit);
  ASSERT_FALSE(params.ok());
  EXPECT_THAT(params.status().message(), HasSubstr(GetParam().message));
}

class HyperParamsRefusalTest : public ::testing::TestWithParam<RefusalCase> {};

TEST_P(HyperParamsRefusalTest, SaysWhy) {
  EXPECT_THAT(Refusal(GetParam().edit), HasSubstr(GetParam().message));
}

Edit SetInt(const char* key, uint32_t value) {
  return [=](gguf_context* g) { gguf_set_val_u32(g, key, value); };
}
Edit SetFloat(const char* key, float value) {
  return [=](gguf_context* g) { gguf_set_val_f32(g, key, value); };
}
Edit SetString(const char* key, const char* value) {
  return [=](gguf_context* g) { gguf_set_val_str(g, key, value); };
}
Edit Remove(const char* key) {
  return [=](gguf_context* g) { gguf_remove_key(g, key); };
}

INSTANTIATE_TEST_SUITE_P(
    All, HyperParamsRefusalTest,
    ::testing::Values(
        RefusalCase{"Architecture", SetString("general.architecture", "mamba"),
                    "architecture 'mamba' is not supported; supported: llama, "
                    "qwen2, qwen3, gemma3, phi3"},
        RefusalCase{"NoArchitecture", Remove("general.architecture"),
                    "key general.architecture is missing"},
        RefusalCase{"Adapter", SetString("general.type", "adapter"),
                    "holds a 'adapter'"},
        RefusalCase{"Experts", SetInt("llama.expert_count", 8),
                    "is a mixture of 8 experts"},
        RefusalCase{"SoftCap", SetFloat("llama.attn_logit_softcapping", 50),
                    "llama.attn_logit_softcapping is 50"},
        RefusalCase{"FinalSoftCap",
                    SetFloat("llama.final_logit_softcapping", 30),
                    "llama.final_logit_softcapping is 30"},
        RefusalCase{"Granite", SetFloat("llama.embedding_scale", 12),
                    "llama.embedding_scale is 12"},
        RefusalCase{"WrongType", SetString("llama.block_count", "two"),
                    "llama.block_count has type str, expected an integer"},
        RefusalCase{"WrongFloat", SetInt("llama.rope.freq_base", 10000),
                    "llama.rope.freq_base has type u32, expected f32"},
        RefusalCase{"NoLayers", SetInt("llama.block_count", 0),
                    "llama.block_count is 0, expected 1 to 1024"},
        RefusalCase{"ManyLayers", SetInt("llama.block_count", 1u << 31),
                    "llama.block_count is 2147483648, expected 1 to 1024"},
        RefusalCase{"NoHeads", SetInt("llama.attention.head_count", 0),
                    "llama.attention.head_count is 0"},
        RefusalCase{"Group", SetInt("llama.attention.head_count_kv", 3),
                    "is 3, which does not divide 4"},
        RefusalCase{"KeyLength", SetInt("llama.attention.key_length", 32),
                    "32 channels for keys and 16 for values"},
        RefusalCase{"HeadDim",
                    [](gguf_context* g) {
                      gguf_set_val_u32(g, "llama.attention.key_length", 12);
                      gguf_set_val_u32(g, "llama.attention.value_length", 12);
                    },
                    "heads of 12 channels are not supported"},
        RefusalCase{"Indivisible",
                    [](gguf_context* g) {
                      gguf_remove_key(g, "llama.attention.key_length");
                      gguf_set_val_u32(g, "llama.embedding_length", 63);
                    },
                    "llama.embedding_length (63) is not a multiple"},
        RefusalCase{"NoContext", Remove("llama.context_length"),
                    "key llama.context_length is missing"},
        RefusalCase{"Epsilon",
                    SetFloat("llama.attention.layer_norm_rms_epsilon", 0),
                    "layer_norm_rms_epsilon is 0"},
        RefusalCase{"OddRope", SetInt("llama.rope.dimension_count", 7),
                    "llama.rope.dimension_count is 7, expected an even"},
        RefusalCase{"WideRope", SetInt("llama.rope.dimension_count", 18),
                    "is 18, expected 2 to 16"},
        RefusalCase{"LongRope",
                    SetString("llama.rope.scaling.type", "longrope"),
                    "'longrope' is not supported; supported: none, linear, "
                    "yarn"},
        RefusalCase{"NegativeFactor", SetFloat("llama.rope.scaling.factor", -1),
                    "llama.rope.scaling.factor is -1"},
        RefusalCase{"MixedWindows",
                    SetInt("llama.attention.sliding_window_pattern", 6),
                    "sliding_window_pattern is not supported"},
        RefusalCase{"NotCausal",
                    [](gguf_context* g) {
                      gguf_set_val_bool(g, "llama.attention.causal", false);
                    },
                    "not causal"},
        RefusalCase{"NoTokens",
                    [](gguf_context* g) {
                      gguf_remove_key(g, "tokenizer.ggml.tokens");
                      gguf_remove_key(g, "llama.vocab_size");
                    },
                    "key tokenizer.ggml.tokens is missing"}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    All, Gemma3RefusalTest,
    ::testing::Values(
        RefusalCase{"AttentionSoftCap",
                    SetFloat("gemma3.attn_logit_softcapping", 50),
                    "gemma3.attn_logit_softcapping is 50; this is not"},
        RefusalCase{"OtherHeads", SetInt("gemma3.attention.key_length_swa", 32),
                    "key_length_swa is 32, other layers have 16"},
        RefusalCase{"OtherRotation",
                    SetInt("gemma3.rope.dimension_count_swa", 8),
                    "dimension_count_swa is 8, other layers have 16"},
        RefusalCase{"LocalBase", SetFloat("gemma3.rope.freq_base_swa", 0.5f),
                    "gemma3.rope.freq_base_swa is 0.5"},
        RefusalCase{"PatternOfWords",
                    SetString("gemma3.attention.sliding_window_pattern", "6"),
                    "sliding_window_pattern has type str"},
        RefusalCase{"ShortPattern",
                    [](gguf_context* g) {
                      const int32_t values[] = {1, 0};
                      gguf_set_arr_data(
                          g, "gemma3.attention.sliding_window_pattern",
                          GGUF_TYPE_INT32, values, 2);
                    },
                    "has 2 values, expected one for each of 7 layers"},
        RefusalCase{"PatternOfFloats",
                    [](gguf_context* g) {
                      const float values[7] = {};
                      gguf_set_arr_data(
                          g, "gemma3.attention.sliding_window_pattern",
                          GGUF_TYPE_FLOAT32, values, 7);
                    },
                    "has type array of f32, expected array of bool"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pyramidkv
