#include "cli/output.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "cli/inputs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

class OutputFileTest : public testing::Test {
 protected:
  ~OutputFileTest() override { std::filesystem::remove(path_); }

  std::string Content() { return ReadFile(path_).value(); }

  const std::string path_ = (std::filesystem::temp_directory_path() /
                             ("pyramidkv_output_" + std::to_string(getpid())))
                                .string();
};

TEST_F(OutputFileTest, OpenEmptiesAndContinueKeeps) {
  std::ofstream(path_) << "what was there";
  auto file = OutputFile::Open(path_);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->Write("one\ntwo\nto"));
  EXPECT_TRUE(file->Close().ok());
  EXPECT_EQ(Content(), "one\ntwo\nto");
  auto more = OutputFile::Continue(path_, 8);
  ASSERT_TRUE(more.ok());
  EXPECT_TRUE(more->Write("three\n"));
  EXPECT_TRUE(more->Close().ok());
  EXPECT_EQ(Content(), "one\ntwo\nthree\n");
}

TEST_F(OutputFileTest, ContinueBeginsAFileThatIsNotThere) {
  auto file = OutputFile::Continue(path_, 0);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->Write("one\n"));
  EXPECT_TRUE(file->Close().ok());
  EXPECT_EQ(Content(), "one\n");
}

TEST_F(OutputFileTest, WhatIsFlushedIsThere) {
  auto file = OutputFile::Open(path_);
  ASSERT_TRUE(file.ok());
  file->Write("one\n");
  EXPECT_TRUE(file->Flush());
  EXPECT_EQ(Content(), "one\n");
  EXPECT_TRUE(file->Close().ok());
}

TEST_F(OutputFileTest, ErrorsNameTheFile) {
  const auto file = OutputFile::Continue("/nonexistent/file", 0);
  EXPECT_EQ(file.status().code(), StatusCode::kRuntime);
  EXPECT_THAT(file.status().message(), testing::HasSubstr("/nonexistent/file"));
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  auto full = OutputFile::Open("/dev/full");
  ASSERT_TRUE(full.ok());
  full->Write("one\n");
  EXPECT_FALSE(full->Flush());
  EXPECT_THAT(full->status().message(), testing::HasSubstr("/dev/full"));
  EXPECT_FALSE(full->Close().ok());
}

}  // namespace
}  // namespace pyramidkv::cli
