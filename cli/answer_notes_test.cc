#include "cli/answer_notes.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Note(const char* reason, const char* text) {
  Generation generation;
  generation.text = text;
  generation.stop_reason = reason;
  generation.tokens.resize(7);
  return EndNote(generation, 4096);
}

TEST(EndNote, NothingIsSilent) {
  EXPECT_EQ(Note("eos", "Paris."), "");
  EXPECT_EQ(Note("stop", "Paris."), "");
  EXPECT_EQ(Note("cancelled", ""), "");
  EXPECT_THAT(Note("eos", " \n"), HasSubstr("wrote nothing"));
  EXPECT_THAT(Note("stop", ""), HasSubstr("stop string"));
  EXPECT_THAT(Note("limit", "Paris"), HasSubstr("after 7 tokens"));
  EXPECT_THAT(Note("context_full", "Paris"), HasSubstr("4096 tokens"));
  EXPECT_THAT(Note("loop", "a a a"), HasSubstr("repeat"));
}

TEST(TrainedNote, SaysWhereTheModelIsLost) {
  ModelInfo model;
  model.context_length = 8192;
  EXPECT_EQ(TrainedNote(model, 16384, 8192), "");
  EXPECT_EQ(TrainedNote(model, 8192, 9000), "");  // does not fit anyway
  EXPECT_THAT(TrainedNote(model, 16384, 8193), HasSubstr("8193"));
}

TEST(TooLongNote, NamesCommandsThatWork) {
  LongPrompt prompt = {.tokens = 12000,
                       .context_size = 8192,
                       .trained = 32768,
                       .command = "pyramidkv run -f a.txt"};
  EXPECT_THAT(TooLongNote(prompt), HasSubstr("-f a.txt -c 12512"));
  EXPECT_THAT(TooLongNote(prompt), HasSubstr("positions=renumber"));
  prompt.trained = 8192;
  EXPECT_THAT(TooLongNote(prompt), Not(HasSubstr("-c ")));
}

}  // namespace
}  // namespace pyramidkv::cli
