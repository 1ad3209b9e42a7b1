#include "text/utf8.h"

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

constexpr size_t kValid = std::string_view::npos;
const std::string kReplacement = "\xEF\xBF\xBD";

struct Case {
  const char* name;
  std::string text;
  size_t invalid_at;
  size_t incomplete;  // bytes at the end that may become a character
  std::string replaced;
};

const Case kCases[] = {
    {"Empty", "", kValid, 0, ""},
    {"Ascii", "abc", kValid, 0, "abc"},
    {"TwoToFourBytes", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8D\x8E", kValid, 0,
     "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8D\x8E"},
    {"Nul", std::string("a\0b", 3), kValid, 0, std::string("a\0b", 3)},
    {"CutAfterOne", "ab\xF0", 2, 1, "ab" + kReplacement},
    {"CutAfterTwo", "ab\xF0\x9F", 2, 2, "ab" + kReplacement},
    {"CutAfterThree", "ab\xF0\x9F\x8D", 2, 3, "ab" + kReplacement},
    {"LoneContinuation", "a\x80z", 1, 0, "a" + kReplacement + "z"},
    {"OverlongTwo", "\xC0\x80", 0, 0, kReplacement + kReplacement},
    {"OverlongThree", "\xE0\x80\x80", 0, 0,
     kReplacement + kReplacement + kReplacement},
    {"Surrogate", "\xED\xA0\x80", 0, 0,
     kReplacement + kReplacement + kReplacement},
    {"LastCodePoint", "\xF4\x8F\xBF\xBF", kValid, 0, "\xF4\x8F\xBF\xBF"},
    {"PastLastCodePoint", "\xF4\x90\x80\x80", 0, 0,
     kReplacement + kReplacement + kReplacement + kReplacement},
    {"NotALeadByte", "x\xFF", 1, 0, "x" + kReplacement},
    {"TruncatedInTheMiddle", "\xE2\x82z", 0, 0, kReplacement + "z"},
    {"SecondFaultDoesNotHideFirst",
     "a\x80"
     "b\xE2",
     1, 1, "a" + kReplacement + "b" + kReplacement},
};

class Utf8CaseTest : public testing::TestWithParam<Case> {};

TEST_P(Utf8CaseTest, FindsHoldsAndReplaces) {
  const Case& c = GetParam();
  EXPECT_EQ(FirstInvalidUtf8(c.text), c.invalid_at);
  EXPECT_EQ(IncompleteSuffix(c.text), c.incomplete);
  EXPECT_EQ(ReplaceInvalidUtf8(c.text), c.replaced);
  EXPECT_EQ(FirstInvalidUtf8(ReplaceInvalidUtf8(c.text)), kValid);
}

INSTANTIATE_TEST_SUITE_P(All, Utf8CaseTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// Exactly the valid ones of all texts of two bytes pass.
TEST(Utf8Test, EveryPairOfBytes) {
  int valid = 0;
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      valid += FirstInvalidUtf8(text) == kValid ? 1 : 0;
    }
  }
  EXPECT_EQ(valid, 128 * 128 + (0xDF - 0xC2 + 1) * 64);
}

}  // namespace
}  // namespace pyramidkv
