#include "cli/output_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class OutputCheckTest : public testing::Test {
 protected:
  OutputCheckTest() { fs::create_directory(folder_); }
  ~OutputCheckTest() override { fs::remove_all(folder_); }

  std::string File(const std::string& name, const std::string& content) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  static Status Check(OutputKind kind, const std::string& path,
                      bool force = false,
                      std::vector<PlannedInput> inputs = {}) {
    const PlannedOutput output = {"--out", path, kind};
    return CheckOutputs({&output, 1}, inputs, force);
  }

  const std::string folder_ = fs::temp_directory_path() /
                              ("pyramidkv_check_" + std::to_string(getpid()));
};

constexpr OutputKind kKinds[] = {OutputKind::kSession, OutputKind::kLines,
                                 OutputKind::kStudy, OutputKind::kLogits};
constexpr char kTrace[] =
    "{\"layer\":0,\"head\":1,\"step\":0,\"kept_positions\":[0,1]}\n";
constexpr char kStudy[] = "{\"task\":\"kl\",\"model_bytes\":9}\n";

TEST_F(OutputCheckTest, DocumentsStayUnlessForced) {
  for (const OutputKind kind : kKinds) {
    for (const char* text : {"A letter to somebody.\n", "1234", "{\"a\": 1}",
                             "name,number\n0,1\n", "GGUF\x03\0\0\0"}) {
      const std::string path = File("doc", text);
      const Status status = Check(kind, path);
      EXPECT_EQ(status.code(), StatusCode::kUsage) << text;
      EXPECT_THAT(status.message(), HasSubstr("--force"));
      EXPECT_THAT(status.message(), HasSubstr(path));
      EXPECT_TRUE(Check(kind, path, true).ok());
    }
  }
}

TEST_F(OutputCheckTest, NewAndEmptyFilesPass) {
  for (const OutputKind kind : kKinds) {
    EXPECT_TRUE(Check(kind, folder_ + "/new").ok());
    EXPECT_TRUE(Check(kind, File("empty", "")).ok());
  }
}

TEST_F(OutputCheckTest, FilesOfTheSameKindPass) {
  EXPECT_TRUE(
      Check(OutputKind::kSession, File("s", "PKVSESS\x1a and more")).ok());
  EXPECT_TRUE(Check(OutputKind::kLines, File("t", kTrace)).ok());
  const float logits[] = {-1.5f, 12.25f, 0.0f, 3e-4f};
  EXPECT_TRUE(Check(OutputKind::kLogits,
                    File("l", std::string(reinterpret_cast<const char*>(logits),
                                          sizeof(logits))))
                  .ok());
  // Each kind stays apart from the others.
  EXPECT_FALSE(Check(OutputKind::kSession, File("t", kTrace)).ok());
  EXPECT_FALSE(Check(OutputKind::kLines, File("e", kStudy)).ok());
}

TEST_F(OutputCheckTest, StudiesAreGoneOnWith) {
  const std::string path = File("study", kStudy);
  EXPECT_THAT(Check(OutputKind::kStudy, path).message(), HasSubstr("--resume"));
  EXPECT_TRUE(Check(OutputKind::kStudy, path, true).ok());
  const PlannedOutput resumed = {"--resume", path, OutputKind::kStudy, true};
  EXPECT_TRUE(CheckOutputs({&resumed, 1}, {}, false).ok());
  const PlannedOutput other = {"--resume", File("doc", "text"),
                               OutputKind::kStudy, true};
  EXPECT_EQ(CheckOutputs({&other, 1}, {}, true).code(), StatusCode::kUsage);
}

TEST_F(OutputCheckTest, DevicesAndPipesPassButForSessions) {
  const std::string fifo = folder_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {fifo, std::string("/dev/null")}) {
    EXPECT_TRUE(Check(OutputKind::kLogits, path).ok());
    EXPECT_TRUE(Check(OutputKind::kStudy, path).ok());
    EXPECT_THAT(Check(OutputKind::kSession, path).message(),
                HasSubstr("no regular file"));
  }
  const PlannedOutput both[] = {{"--a", "/dev/null", OutputKind::kLines},
                                {"--b", "/dev/null", OutputKind::kLogits}};
  EXPECT_TRUE(CheckOutputs(both, {}, false).ok());
}

TEST_F(OutputCheckTest, InputsAreNeverWritten) {
  const std::string model = File("model", "PKVSESS\x1a");
  fs::create_hard_link(model, folder_ + "/link");
  for (const std::string& path :
       {model, folder_ + "/link",
        folder_ + "/../" + fs::path(folder_).filename().string() + "/model"}) {
    const Status status =
        Check(OutputKind::kSession, path, true, {{"--model", model}});
    EXPECT_EQ(status.code(), StatusCode::kUsage);
    EXPECT_THAT(status.message(), HasSubstr("--model reads this file"));
  }
  const PlannedInput stored = {"--load-session", model, true};
  EXPECT_TRUE(Check(OutputKind::kSession, model, false, {stored}).ok());
  EXPECT_FALSE(Check(OutputKind::kLogits, model, true, {stored}).ok());
}

TEST_F(OutputCheckTest, OneFileHasOneWriter) {
  const PlannedOutput both[] = {
      {"--logits", folder_ + "/x", OutputKind::kLogits},
      {"--kv-trace", folder_ + "/./x", OutputKind::kLines}};
  EXPECT_THAT(CheckOutputs(both, {}, true).message(),
              HasSubstr("--logits writes this file"));
}

TEST_F(OutputCheckTest, NamesThatCannotBeWritten) {
  for (const OutputKind kind : kKinds) {
    EXPECT_THAT(Check(kind, folder_, true).message(), HasSubstr("directory"));
    EXPECT_THAT(Check(kind, folder_ + "/", true).message(),
                HasSubstr("directory"));
    const Status far = Check(kind, folder_ + "/" + std::string(300, 'x'), true);
    EXPECT_EQ(far.code(), StatusCode::kUsage);
    EXPECT_THAT(far.message(), HasSubstr("too long"));
    const Status none = Check(kind, "/nonexistent/x");
    EXPECT_EQ(none.code(), StatusCode::kRuntime);
    EXPECT_THAT(none.message(), HasSubstr("/nonexistent"));
  }
  // While it is written a session's file has a longer name.
  const std::string name = folder_ + "/" + std::string(240, 'x');
  EXPECT_FALSE(Check(OutputKind::kSession, name).ok());
  EXPECT_TRUE(Check(OutputKind::kLogits, name).ok());
}

}  // namespace
}  // namespace pyramidkv::cli
