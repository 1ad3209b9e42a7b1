// The vocabulary of the default model, loaded once for all tests.

#ifndef PYRAMIDKV_TEXT_TESTING_DEFAULT_VOCABULARY_H_
#define PYRAMIDKV_TEXT_TESTING_DEFAULT_VOCABULARY_H_

#include "gtest/gtest.h"
#include "text/text.h"

namespace pyramidkv {

// SmolLM2's control tokens.
inline constexpr int kImStart = 1;
inline constexpr int kImEnd = 2;

class DefaultVocabulary : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (tokenizer_ != nullptr) return;
    auto loaded = Tokenizer::Load(PYRAMIDKV_SOURCE_DIR "/models/default.gguf");
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    tokenizer_ = loaded->release();
  }

  inline static Tokenizer* tokenizer_ = nullptr;  // as long as the process
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_TESTING_DEFAULT_VOCABULARY_H_
