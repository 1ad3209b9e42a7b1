#include "base/temporary_file.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;

class TemporaryFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() /
                 ("pyramidkv_temporary_" + std::to_string(getpid()));
    fs::create_directories(directory_);
    path_ = (directory_ / "a").string();
  }
  void TearDown() override { fs::remove_all(directory_); }

  // The id of a gone process.
  static pid_t DeadProcess() {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    int result = 0;
    EXPECT_EQ(waitpid(child, &result, 0), child);
    return child;
  }

  fs::path directory_;
  std::string path_;
};

TEST_F(TemporaryFileTest, NamesDiffer) {
  std::string first, second;
  const int a = OpenTemporary(path_, 0600, &first);
  const int b = OpenTemporary(path_, 0600, &second);
  ASSERT_GE(a, 0);
  ASSERT_GE(b, 0);
  EXPECT_EQ(first, path_ + ".tmp-" + std::to_string(getpid()) + "-0");
  EXPECT_EQ(second, path_ + ".tmp-" + std::to_string(getpid()) + "-1");
  EXPECT_EQ(fs::status(first).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
  close(a);
  close(b);
  EXPECT_EQ(OpenTemporary(path_ + "/none", 0600, &first), -1);
}

TEST_F(TemporaryFileTest, OnlyLitterIsRemoved) {
  const std::string dead = std::to_string(DeadProcess());
  for (const char* name : {"a.tmp-DEAD-0", "a.tmp-DEAD-12", "b.tmp-DEAD-0",
                           "a.tmp-DEAD", "a.tmp-notes", "a.tmp-DEAD-0x", "a"}) {
    std::string file = name;
    const size_t at = file.find("DEAD");
    if (at != std::string::npos) file.replace(at, 4, dead);
    std::ofstream{directory_ / file};
  }
  std::string held;
  const int fd = OpenTemporary(path_, 0600, &held);
  RemoveStaleTemporaries(path_);
  EXPECT_FALSE(fs::exists(path_ + ".tmp-" + dead + "-0"));
  EXPECT_FALSE(fs::exists(path_ + ".tmp-" + dead + "-12"));
  EXPECT_TRUE(fs::exists(held));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_),
                          fs::directory_iterator()),
            6);
  // However old: who holds it lives.
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(2);
  fs::last_write_time(held, old);
  RemoveStaleTemporaries(path_);
  EXPECT_TRUE(fs::exists(held));
  // A process id comes again.
  close(fd);
  RemoveStaleTemporaries(path_);
  EXPECT_FALSE(fs::exists(held));
  RemoveStaleTemporaries(path_ + "/no/such/directory");
}

}  // namespace
}  // namespace pyramidkv
