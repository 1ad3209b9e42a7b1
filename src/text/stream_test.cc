#include "text/stream.h"

#include <random>

#include "gtest/gtest.h"
#include "text/utf8.h"

namespace pyramidkv {
namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& o) {
  return out << testing::PrintToString(o.text) << (o.stopped ? " stopped" : "");
}

// Feeds `pieces`; every part that comes out must be valid UTF-8 by itself.
Outcome Feed(const std::vector<std::string>& pieces,
             const std::vector<std::string>& stop) {
  TextStream stream(stop);
  std::string text;
  for (const std::string& piece : pieces) {
    const std::string out = stream.Push(piece);
    EXPECT_EQ(FirstInvalidUtf8(out), std::string::npos);
    text += out;
  }
  text += stream.Finish();
  EXPECT_EQ(text, stream.text());
  EXPECT_EQ(stream.Finish(), "");
  return {text, stream.stopped()};
}

struct Case {
  const char* name;
  std::string input;
  std::vector<std::string> stop;
  Outcome want;
};

const Case kCases[] = {
    {"MultiByte",
     "na\xC3\xAFve \xE2\x82\xAC"
     "5 \xF0\x9F\x8D\x8E!",
     {},
     {"na\xC3\xAFve \xE2\x82\xAC"
      "5 \xF0\x9F\x8D\x8E!",
      false}},
    {"CutOffCharacter", "ok \xF0\x9F\x8D", {}, {"ok \xEF\xBF\xBD", false}},
    {"InvalidByte",
     "a\xFF\xE2\x82z",
     {},
     {"a\xEF\xBF\xBD\xEF\xBF\xBDz", false}},
    {"Stop", "Paris.\nUser: next", {"\nUser:"}, {"Paris.", true}},
    {"StopAtStart", "STOP it", {"STOP"}, {"", true}},
    {"AlmostStop",
     "one\nUse two\nUs",
     {"\nUser:"},
     {"one\nUse two\nUs", false}},
    {"PrefixRepeats", "aaab", {"aab"}, {"a", true}},
    {"FirstCompleteWins", "xabcd", {"abcd", "bc"}, {"xa", true}},
    {"LongestOfThoseThatEndTogether", "xabc", {"c", "abc"}, {"x", true}},
    {"MultiByteStop",
     "caf\xC3\xA9 \xE2\x82\xAC rest",
     {"\xE2\x82\xAC"},
     {"caf\xC3\xA9 ", true}},
    {"StopSharesLeadByte",
     "\xE2\x82\xAC\xE2\x82\xAD",
     {"\xE2\x82\xAD"},
     {"\xE2\x82\xAC", true}},
    {"CutOffBeforeStop", "a\xE2\x82###b", {"###"}, {"a\xEF\xBF\xBD", true}},
    {"EmptyStopIsIgnored", "text", {""}, {"text", false}},
};

class TextStreamSplitTest : public testing::TestWithParam<Case> {};

TEST_P(TextStreamSplitTest, EverySplitInThree) {
  const Case& c = GetParam();
  const std::string& s = c.input;
  for (size_t i = 0; i <= s.size(); ++i) {
    for (size_t j = i; j <= s.size(); ++j) {
      EXPECT_EQ(Feed({s.substr(0, i), s.substr(i, j - i), s.substr(j)}, c.stop),
                c.want)
          << "split at " << i << " and " << j;
    }
  }
}

TEST_P(TextStreamSplitTest, ByteByByte) {
  const Case& c = GetParam();
  std::vector<std::string> bytes;
  for (char b : c.input) bytes.emplace_back(1, b);
  EXPECT_EQ(Feed(bytes, c.stop), c.want);
}

INSTANTIATE_TEST_SUITE_P(All, TextStreamSplitTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST(TextStreamTest, HoldsBackOnlyWhatIsUncertain) {
  TextStream stream({"\nUser:"});
  EXPECT_EQ(stream.Push("Hello"), "Hello");
  EXPECT_EQ(stream.Push(" w\n"), " w");
  EXPECT_EQ(stream.Push("Us"), "");
  EXPECT_EQ(stream.Push("age"), "\nUsage");
  EXPECT_EQ(stream.Push("\xE2\x82"), "");
  EXPECT_EQ(stream.Push("\xAC"), "\xE2\x82\xAC");
  EXPECT_EQ(stream.Push("\nUser: ignored"), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.Push("more"), "");
  EXPECT_EQ(stream.Finish(), "");
}

// Random bytes of a small alphabet with random stop strings: the outcome does
// not depend on the split.
TEST(TextStreamTest, SplitsDoNotMatter) {
  std::mt19937 random(7);
  const std::string alphabet = "ab\xC3\xA9\xE2\x82\xAC";
  const auto word = [&](size_t length) {
    std::string s;
    while (s.size() < length) s += alphabet[random() % alphabet.size()];
    return s;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string input = word(random() % 24);
    std::vector<std::string> stop;
    for (int i = 0; i < 3; ++i) {
      stop.push_back(ReplaceInvalidUtf8(word(1 + random() % 4)));
    }
    std::vector<std::string> pieces;
    for (size_t at = 0; at < input.size();) {
      const size_t n = 1 + random() % 5;
      pieces.push_back(input.substr(at, n));
      at += n;
    }
    EXPECT_EQ(Feed(pieces, stop), Feed({input}, stop)) << "round " << round;
  }
}

}  // namespace
}  // namespace pyramidkv
