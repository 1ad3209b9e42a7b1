#include "eval/text_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <string>

#include "eval/grammar.h"
#include "eval/testing/word_counter.h"

namespace pyramidkv {
namespace {

TEST(TextGeneratorTest, SentencesAreVariedAndWellFormed) {
  const TextGenerator generator(CountWords);
  Random random(1);
  std::set<std::string> different;
  constexpr int kSentences = 2000;
  for (int i = 0; i < kSentences; ++i) {
    const std::string s = generator.Sentence(&random);
    different.insert(s);
    EXPECT_TRUE(std::isupper(s[s[0] == '"' ? 1 : 0])) << s;
    EXPECT_TRUE(s.back() == '.' || s.back() == '?') << s;
    EXPECT_EQ(s.find_first_of("0123456789{}|\n"), s.npos) << s;
    EXPECT_EQ(s.find(" a old"), s.npos) << s;
    EXPECT_EQ(s.find("  "), s.npos) << s;
  }
  EXPECT_GT(different.size(), kSentences * 90 / 100);
}

TEST(TextGeneratorTest, EveryKindInTheGrammarIsThere) {
  std::set<std::string_view> kinds;
  for (const GrammarRule& rule : TextGrammar()) {
    EXPECT_TRUE(kinds.insert(rule.kind).second) << rule.kind << " twice";
  }
  for (const GrammarRule& rule : TextGrammar()) {
    for (size_t at = 0; (at = rule.choices.find('{', at)) != size_t(-1);) {
      const size_t end = rule.choices.find('}', at);
      const auto kind = rule.choices.substr(at + 1, end - at - 1);
      EXPECT_TRUE(kinds.contains(kind)) << kind << " in " << rule.kind;
      at = end;
    }
  }
}

TEST(TextGeneratorTest, ParagraphsFillWhatTheyAreGiven) {
  const TextGenerator generator(CountWords);
  for (const int tokens : {20, 57, 130, 999, 2000}) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      Random random(seed);
      const std::string text = generator.Paragraphs(tokens, &random);
      EXPECT_LE(generator.Cost(text), tokens);
      EXPECT_GE(generator.Cost(text), tokens - 3) << tokens << " " << seed;
      EXPECT_EQ(text[0], '\n');
    }
  }
}

TEST(TextGeneratorTest, ParagraphsHaveThreeToEightSentences) {
  const TextGenerator generator(CountWords);
  Random random(1);
  const std::string text = generator.Paragraphs(3000, &random) + "\n";
  std::set<int> lengths;
  size_t begin = 1;
  for (size_t end; (end = text.find('\n', begin)) != text.npos;) {
    int sentences = 0;
    for (size_t i = begin; i < end; ++i) {
      const bool ends = text[i] == '.' || text[i] == '?';
      sentences += ends && (i + 1 == end || text[i + 1] == ' ') ? 1 : 0;
    }
    begin = end + 1;
    if (begin < text.size()) lengths.insert(sentences);  // but the last one
  }
  EXPECT_THAT(lengths, testing::ElementsAre(3, 4, 5, 6, 7, 8));
}

TEST(TextGeneratorTest, NothingFits) {
  const TextGenerator generator(CountWords);
  Random random(1);
  EXPECT_EQ(generator.Paragraphs(2, &random), "");
  EXPECT_EQ(generator.Paragraphs(0, &random), "");
  EXPECT_EQ(generator.Paragraphs(-5, &random), "");
}

TEST(TextGeneratorTest, ASeedGivesOneText) {
  const TextGenerator generator(CountWords);
  Random a(7), b(7), c(8);
  const std::string text = generator.Paragraphs(200, &a);
  EXPECT_EQ(text, generator.Paragraphs(200, &b));
  EXPECT_NE(text, generator.Paragraphs(200, &c));
}

}  // namespace
}  // namespace pyramidkv
