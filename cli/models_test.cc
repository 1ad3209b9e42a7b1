#include "cli/models.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// In an empty directory, with a user's directory beside it.
class ModelsTest : public testing::Test {
 protected:
  ModelsTest() : before_(fs::current_path()) {
    fs::create_directories(here_);
    fs::create_directories(user_);
    fs::current_path(here_);
    setenv("XDG_DATA_HOME", (root_ + "/data").c_str(), 1);
    unsetenv("PYRAMIDKV_MODEL");
    unsetenv("PYRAMIDKV_ARG_MODEL");
  }
  ~ModelsTest() override {
    fs::current_path(before_);
    fs::remove_all(root_);
    unsetenv("XDG_DATA_HOME");
    unsetenv("PYRAMIDKV_MODEL");
  }
  static void Touch(const std::string& path) {
    const fs::path folder = fs::path(path).parent_path();
    if (!folder.empty()) fs::create_directories(folder);
    std::ofstream(path) << "x";
  }

  const fs::path before_;
  const std::string root_ = fs::temp_directory_path() /
                            ("pyramidkv_models_" + std::to_string(getpid()));
  const std::string here_ = root_ + "/here";
  const std::string user_ = root_ + "/data/pyramidkv/models";
};

TEST_F(ModelsTest, TheDefaultIsFoundFromAnyDirectory) {
  const auto none = ResolveModelPath("");
  EXPECT_EQ(none.status().code(), StatusCode::kModel);
  EXPECT_THAT(none.status().message(), HasSubstr("models or " + user_));
  Touch(user_ + "/default.gguf");
  EXPECT_EQ(*ResolveModelPath(""), user_ + "/default.gguf");
  Touch("models/default.gguf");  // this one is nearer
  EXPECT_EQ(*ResolveModelPath(""), "models/default.gguf");
  setenv("PYRAMIDKV_MODEL", "/elsewhere", 1);
  EXPECT_EQ(*ResolveModelPath(""), "/elsewhere");
  EXPECT_EQ(*ResolveModelPath("flag"), "flag");
}

TEST_F(ModelsTest, NamesStandForFilesOfTheDirectories) {
  Touch(user_ + "/small.gguf");
  EXPECT_EQ(*ResolveModelPath("small"), user_ + "/small.gguf");
  EXPECT_EQ(*ResolveModelPath("small.gguf"), user_ + "/small.gguf");
  setenv("PYRAMIDKV_MODEL", "small", 1);
  EXPECT_EQ(*ResolveModelPath(""), user_ + "/small.gguf");
  Touch("small");  // a file of that name comes first
  EXPECT_EQ(*ResolveModelPath("small"), "small");
  EXPECT_EQ(*ResolveModelPath("./other"), "./other");
}

TEST_F(ModelsTest, ListsBothDirectories) {
  Touch(user_ + "/b.gguf");
  Touch(user_ + "/notes.txt");
  Touch("models/a.gguf");
  EXPECT_THAT(FindModels(), ElementsAre("models/a.gguf", user_ + "/b.gguf"));
}

TEST_F(ModelsTest, HomeIsTakenWithoutAnXdgDirectory) {
  unsetenv("XDG_DATA_HOME");
  const std::string home = std::getenv("HOME");
  setenv("HOME", "/somebody", 1);
  EXPECT_THAT(ModelDirectories(),
              ElementsAre("models", "/somebody/.local/share/pyramidkv/models"));
  setenv("HOME", home.c_str(), 1);
}

}  // namespace
}  // namespace pyramidkv::cli
