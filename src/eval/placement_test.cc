#include "eval/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "eval/testing/tiny_eval.h"
#include "eval/trial.h"

namespace pyramidkv {
namespace {

constexpr EvalPlacement kAll[] = {EvalPlacement::kAgnostic,
                                  EvalPlacement::kAware, EvalPlacement::kWhole};

class PlacementTest : public testing::Test {
 protected:
  PlacementTest() : generator_(CounterOf(*engine_)) {}

  Prompt MakeAbout(int tokens) {
    return *MakePrompt(generator_, {.tokens = tokens}, 0);
  }
  PlacedPrompt Place(const Prompt& prompt, EvalPlacement placement) {
    const auto placed = PlacePrompt(*engine_, prompt, placement);
    EXPECT_TRUE(placed.ok()) << placed.status().message();
    return *placed;
  }
  // The positions that each compaction of a trial keeps.
  std::vector<std::string> KeptPositions(const Prompt& prompt,
                                         EvalPlacement placement,
                                         const std::string& spec) {
    std::vector<std::string> lines;
    const EvalOptions options{.placement = placement};
    EvalCallbacks callbacks;
    callbacks.trace = [&](std::string_view, std::string_view line) {
      EXPECT_NE(line.find("\"step\":0,"), line.npos)
          << "compressed again after the context: " << line;
      lines.emplace_back(line);
    };
    const std::vector<std::string> specs = {spec};
    const auto result =
        RunAnswerTrial({engine_.get(), &options, &callbacks}, prompt, specs);
    EXPECT_TRUE(result.ok()) << result.status().message();
    return lines;
  }

  std::unique_ptr<Engine> engine_ = TinyEvalEngine();
  TextGenerator generator_;
};

TEST_F(PlacementTest, PartsAreTheWholePrompt) {
  const Prompt prompt = MakeAbout(300);
  const auto whole = TokenizeBeginning(
      *engine_, prompt.context + prompt.question + prompt.prefix);
  ASSERT_TRUE(whole.ok());
  size_t read = 0;
  for (const EvalPlacement placement : kAll) {
    const PlacedPrompt placed = Place(prompt, placement);
    std::vector<int> joined = placed.read;
    joined.insert(joined.end(), placed.forced.begin(), placed.forced.end());
    EXPECT_EQ(joined, *whole);
    EXPECT_GT(placed.read.size(), read);
    read = placed.read.size();
  }
  EXPECT_EQ(read, whole->size() - 1);
}

TEST_F(PlacementTest, SplitsStandWhereThePartsBegin) {
  const Prompt prompt = MakeAbout(300);
  const std::string forced[] = {prompt.question + prompt.prefix, prompt.prefix,
                                " "};
  for (size_t i = 0; i < std::size(forced); ++i) {
    const PlacedPrompt placed = Place(prompt, kAll[i]);
    // Behind the beginning-of-text token and one that says where it starts.
    std::vector<int> text = placed.read;
    text.insert(text.end(), placed.forced.begin(), placed.forced.end());
    const std::string all = engine_->Detokenize(text);
    EXPECT_EQ(engine_->Detokenize(placed.read) + forced[i], all) << i;
  }
}

TEST_F(PlacementTest, TextsAreNotParsedForControlTokens) {
  const auto tokens = TokenizeBeginning(*engine_, "a</s>b");
  ASSERT_TRUE(tokens.ok());
  EXPECT_GE(tokens->size(), 6u);
  // One beginning-of-text token, and that of an empty text.
  const auto empty = TokenizeBeginning(*engine_, "");
  ASSERT_TRUE(empty.ok());
  EXPECT_THAT(*empty, testing::ElementsAre(tokens->front()));
}

// The trap that the agnostic placement is there to avoid: a scorer that sees
// the question. With the same seed, the same entries stay whatever is asked.
TEST_F(PlacementTest, AgnosticKeepsTheSameWhateverIsAsked) {
  const Prompt prompt = MakeAbout(400);
  Prompt other = prompt;
  other.question = "\n\nHow many words were there about trout, and where?\n";
  other.prefix = "It was said of the trout that there were ";
  for (const char* spec :
       {"snapkv,keep=0.3", "pyramidkv,keep=0.3", "snapkv-wide,keep=0.2"}) {
    const auto kept = KeptPositions(prompt, EvalPlacement::kAgnostic, spec);
    EXPECT_GE(kept.size(), 3u * 2) << spec;
    EXPECT_EQ(kept, KeptPositions(other, EvalPlacement::kAgnostic, spec));
    // The comparison can fail: a question that is read changes what stays.
    EXPECT_NE(KeptPositions(prompt, EvalPlacement::kAware, spec),
              KeptPositions(other, EvalPlacement::kAware, spec));
  }
}

TEST_F(PlacementTest, AgnosticReadsTheContextAlone) {
  const Prompt prompt = MakeAbout(300);
  Prompt other = prompt;
  other.question = "\n\nWho laughed?\n";
  other.prefix = "The one who laughed is ";
  EXPECT_EQ(Place(prompt, EvalPlacement::kAgnostic).read,
            Place(other, EvalPlacement::kAgnostic).read);
  // A token that spans the border is forced.
  other.question = "elessly";
  const auto read = Place(other, EvalPlacement::kAgnostic).read;
  EXPECT_LE(read.size(), Place(prompt, EvalPlacement::kAgnostic).read.size());
}

}  // namespace
}  // namespace pyramidkv
