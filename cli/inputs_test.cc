#include "cli/inputs.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ParseIdListTest, JsonAndPlainLists) {
  EXPECT_THAT(*ParseIdList("[1, 2,3]\n", "f"), ElementsAre(1, 2, 3));
  EXPECT_THAT(*ParseIdList(" 1 2\n3\t4 ", "f"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(*ParseIdList("7", "f"), ElementsAre(7));
  EXPECT_THAT(*ParseIdList("-5", "f"), ElementsAre(-5));
  EXPECT_THAT(*ParseIdList("", "f"), IsEmpty());
  EXPECT_THAT(*ParseIdList(" [ ] ", "f"), IsEmpty());
}

TEST(ParseIdListTest, SaysWhatIsNotAnId) {
  for (const char* text :
       {"[1", "1]", "[", "1 x", "1.5", "99999999999", "{}"}) {
    const auto ids = ParseIdList(text, "ids.json");
    ASSERT_FALSE(ids.ok()) << text;
    EXPECT_EQ(ids.status().code(), StatusCode::kUsage) << text;
    EXPECT_THAT(ids.status().message(), HasSubstr("ids.json")) << text;
  }
}

TEST(CheckIdsTest, NamesTheFirstOutsideTheVocabulary) {
  EXPECT_TRUE(CheckIds(std::vector<int>{0, 9}, 10, "f").ok());
  const Status status = CheckIds(std::vector<int>{3, 10, -1}, 10, "f");
  EXPECT_EQ(status.code(), StatusCode::kUsage);
  EXPECT_THAT(status.message(), HasSubstr("token id 10 "));
  EXPECT_THAT(CheckIds(std::vector<int>{-1}, 10, "f").message(),
              HasSubstr("token id -1 "));
}

TEST(DropTrailingNewlineTest, DropsOne) {
  EXPECT_EQ(DropTrailingNewline("a\n\n"), "a\n");
  EXPECT_EQ(DropTrailingNewline("a"), "a");
  EXPECT_EQ(DropTrailingNewline("\n"), "");
  EXPECT_EQ(DropTrailingNewline(""), "");
}

}  // namespace
}  // namespace pyramidkv::cli
