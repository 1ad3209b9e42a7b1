#include "cli/document.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using ::testing::HasSubstr;

// A literal with the bytes that are 0 in it.
template <size_t kSize>
std::string Bytes(const char (&text)[kSize]) {
  return std::string(text, kSize - 1);
}

std::string Refusal(const std::string& bytes) {
  const Result<std::string> text = DocumentText(bytes, "a file");
  EXPECT_FALSE(text.ok());
  if (text.ok()) return "";
  EXPECT_EQ(text.status().code(), StatusCode::kUsage);
  EXPECT_THAT(text.status().message(), HasSubstr("a file"));
  return text.status().message();
}

std::string Text(const std::string& bytes) {
  const Result<std::string> text = DocumentText(bytes, "a file");
  EXPECT_TRUE(text.ok()) << text.status().message();
  return text.ok() ? *text : "";
}

TEST(Document, TextLosesMarkAndCarriageReturns) {
  EXPECT_EQ(Text("\xEF\xBB\xBFone\r\ntwo\r\n"), "one\ntwo");
  EXPECT_EQ(Text("a\rb\r\r\nc"), "a\rb\r\nc");  // a lone CR stays
  EXPECT_EQ(Text(""), "");
  EXPECT_EQ(Text("Gr\xC3\xBC\xC3\x9F"
                 "e\n\n"),
            "Gr\xC3\xBC\xC3\x9F"
            "e\n");
  EXPECT_EQ(Text("if a < b: <html is not the start"),
            "if a < b: <html is not the start");
}

TEST(Document, OtherKindsAreNamedWithTheirCommand) {
  EXPECT_THAT(Refusal("%PDF-1.7\n%\xE2\xE3"), HasSubstr("pdftotext"));
  EXPECT_THAT(Refusal("PK\x03\x04....[Content_Types].xml"),
              HasSubstr("pandoc"));
  EXPECT_THAT(Refusal("PK\x03\x04....readme.md"), HasSubstr("unzip"));
  EXPECT_THAT(Refusal("\x1F\x8B\x08"), HasSubstr("zcat"));
  EXPECT_THAT(Refusal(Bytes("GGUF\x03\0\0\0")), HasSubstr("run -m"));
  EXPECT_THAT(Refusal(Bytes("\x10\0\0\0\0\0\0\0{\"a\":1}")),
              HasSubstr("safetensors"));
  EXPECT_THAT(Refusal("version https://git-lfs.github.com/spec/v1\noid"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(Refusal("\n <!DOCTYPE HTML>\n<p>"), HasSubstr("html2text"));
  EXPECT_THAT(Refusal("<HTML lang=\"en\">"), HasSubstr("--verbatim"));
  EXPECT_THAT(Refusal(Bytes("\xFF\xFEh\0i\0")), HasSubstr("UTF-16"));
  EXPECT_THAT(Refusal(Bytes("h\0e\0l\0l\0o\0")), HasSubstr("UTF-16"));
  EXPECT_THAT(Refusal(Bytes("\0h\0e\0l\0l\0o")), HasSubstr("UTF-16"));
  EXPECT_THAT(Refusal("Gr\xFC\xDF"
                      "e"),
              HasSubstr("iconv -f WINDOWS-1252"));
  EXPECT_THAT(Refusal(Bytes("a\0bc, and text")), HasSubstr("no text"));
}

TEST(Document, NamesThatNoFileHas) {
  for (const char* name : {"", "http://a.b/c", "https://a.b/c", "/no/such"}) {
    const Result<std::string> text = ReadDocument(name, false);
    ASSERT_FALSE(text.ok()) << name;
    EXPECT_EQ(text.status().code(), StatusCode::kUsage);
    EXPECT_THAT(text.status().message(), HasSubstr(name));
  }
}

TEST(Document, VerbatimKeepsBytes) {
  const std::string path = ::testing::TempDir() + "/document_test.txt";
  std::ofstream(path, std::ios::binary) << "\xEF\xBB\xBF<html>\r\n\r\n";
  const Result<std::string> text = ReadDocument(path, /*verbatim=*/true);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "\xEF\xBB\xBF<html>\r\n\r");
  EXPECT_FALSE(ReadDocument(path, /*verbatim=*/false).ok());
}

}  // namespace
}  // namespace pyramidkv::cli
