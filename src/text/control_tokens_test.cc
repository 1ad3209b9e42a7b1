#include "text/control_tokens.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using testing::ElementsAre;
using testing::Pair;

const SpecialTokens kTokens({{"<a>", 1, true},
                             {"<a><b>", 2, true},
                             {"<u>", 3, false},
                             {"<l>", 4, true, true, false},
                             {"<r>", 5, true, false, true}});

std::vector<std::string> Split(const ChatText& chat) {
  std::vector<std::string> parts;
  for (const TextPart& part : kTokens.Split(chat)) {
    const int* id = std::get_if<int>(&part);
    parts.push_back(id ? "#" + std::to_string(*id)
                       : std::string(std::get<std::string_view>(part)));
  }
  return parts;
}

TEST(SpecialTokensTest, CutsLongerTokensFirst) {
  EXPECT_THAT(Split({"x<a><b>y<a>"}), ElementsAre("x", "#2", "y", "#1"));
  EXPECT_THAT(Split({"<a><a>"}), ElementsAre("#1", "#1"));
  EXPECT_THAT(Split({""}), ElementsAre());
}

TEST(SpecialTokensTest, StripsAsTheTokenSays) {
  EXPECT_THAT(Split({"x \n<l> y"}), ElementsAre("x", "#4", " y"));
  EXPECT_THAT(Split({"x <r> \ny"}), ElementsAre("x ", "#5", "y"));
  EXPECT_THAT(Split({" <l>"}), ElementsAre("#4"));
}

TEST(SpecialTokensTest, NoControlTokenTouchesWhatWasSaid) {
  EXPECT_THAT(Split({"<a>x<a>y<a>", {{3, 8}}}),
              ElementsAre("#1", "x<a>y", "#1"));
  // Half of it is the template's.
  EXPECT_THAT(Split({"x<a>", {{0, 2}}}), ElementsAre("x<a>"));
  EXPECT_THAT(Split({"<a>x", {{2, 4}}}), ElementsAre("<a>x"));
  EXPECT_THAT(Split({"<u>x", {{0, 4}}}), ElementsAre("#3", "x"));
}

TEST(SpecialTokensTest, MarksMakeControlTokensText) {
  EXPECT_EQ(kTokens.Mark("x<a><b>y<u>", "~"), "x<~a><b>y<u>");
  EXPECT_EQ(kTokens.Mark("<a><a>", "~"), "<~a><~a>");
  EXPECT_EQ(kTokens.Mark("plain", "~"), "plain");
}

TEST(SpecialTokensTest, WithoutMarksKeepsRangesInPlace) {
  const ChatText chat = WithoutMarks({"<a>x<~a>y<a>", {{3, 9}}}, "~");
  EXPECT_EQ(chat.text, "<a>x<a>y<a>");
  EXPECT_THAT(chat.said, ElementsAre(Pair(3, 8)));
  const ChatText lost = WithoutMarks({"<a>x<~a>y<a>"}, "~");
  EXPECT_THAT(lost.said, ElementsAre(Pair(4, 5)));
  EXPECT_THAT(Split(lost), ElementsAre("#1", "x<a>y", "#1"));
}

TEST(UnusedCharacterTest, IsInNone) {
  EXPECT_EQ(UnusedCharacter({"abc"}), "\xEE\x80\x80");
  EXPECT_EQ(UnusedCharacter({"\xEE\x80\x80", "\xEE\x80\x81"}), "\xEE\x80\x82");
}

}  // namespace
}  // namespace pyramidkv
