// The container of session files: what was written is read back, and damage of
// any kind is a Status.

#include "runtime/session_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/little_endian.h"
#include "runtime/session_checksum.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr SessionFileId kId = {{11, 12}, 3};

std::vector<std::byte> RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

class SessionFileTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() /
                 ("pyramidkv_file_" + std::to_string(getpid()));
    fs::create_directories(directory_);
    path_ = (directory_ / "a.session").string();
  }
  void TearDown() override { fs::remove_all(directory_); }

  Status Write(std::span<const std::byte> bytes,
               const SessionFileId& id = kId) {
    PKV_ASSIGN_OR_RETURN(auto writer, SessionFileWriter::Create(path_, id));
    for (size_t at = 0; at < bytes.size(); at += 100'003) {
      PKV_RETURN_IF_ERROR(writer->Append(
          bytes.subspan(at, std::min<size_t>(100'003, bytes.size() - at))));
    }
    return writer->Commit();
  }

  Status Verify() {
    PKV_ASSIGN_OR_RETURN(auto reader, SessionFileReader::Open(path_));
    return reader->Finish();
  }

  std::vector<std::byte> FileBytes() {
    std::vector<std::byte> bytes(fs::file_size(path_));
    std::ifstream(path_, std::ios::binary)
        .read(reinterpret_cast<char*>(bytes.data()), std::ssize(bytes));
    return bytes;
  }

  void Replace(std::span<const std::byte> bytes) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  }

  // Verify() with some bytes of the file replaced.
  Status WithBytes(size_t at, std::span<const std::byte> bytes) {
    const int fd = open(path_.c_str(), O_RDWR);
    std::vector<std::byte> before(bytes.size());
    EXPECT_EQ(pread(fd, before.data(), before.size(), at), std::ssize(before));
    EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), at), std::ssize(bytes));
    Status status = Verify();
    EXPECT_EQ(pwrite(fd, before.data(), before.size(), at), std::ssize(before));
    close(fd);
    return status;
  }

  int FilesInDirectory() {
    return static_cast<int>(std::distance(fs::directory_iterator(directory_),
                                          fs::directory_iterator()));
  }

  fs::path directory_;
  std::string path_;
};

TEST_F(SessionFileTest, RoundTripsOfManySizes) {
  for (size_t size : {size_t{0}, size_t{1}, kChunkBytes - 1, kChunkBytes,
                      kChunkBytes + 1, 3 * kChunkBytes + 77}) {
    const auto bytes = RandomBytes(size, 1);
    ASSERT_TRUE(Write(bytes).ok());
    auto reader = SessionFileReader::Open(path_);
    ASSERT_TRUE(reader.ok()) << reader.status().message();
    EXPECT_EQ((*reader)->id(), kId);
    EXPECT_EQ((*reader)->payload_bytes(), size);
    std::vector<std::byte> read(size);
    for (size_t at = 0; at < size; at += 70'001) {
      const size_t part = std::min<size_t>(70'001, size - at);
      ASSERT_TRUE((*reader)->Read(std::span(read).subspan(at, part)).ok());
    }
    EXPECT_EQ(read, bytes);
    EXPECT_EQ((*reader)->remaining(), 0u);
    std::byte more;
    EXPECT_EQ((*reader)->Read({&more, 1}).code(), StatusCode::kModel);
    EXPECT_TRUE((*reader)->Finish().ok());
  }
  EXPECT_EQ(FilesInDirectory(), 1);
}

TEST_F(SessionFileTest, EveryBitOfHeadersAndFooterCounts) {
  ASSERT_TRUE(Write(RandomBytes(2 * kChunkBytes + 5, 2)).ok());
  const auto file = FileBytes();
  std::vector<std::pair<size_t, size_t>> parts = {
      {0, kSessionHeaderBytes},
      {file.size() - kSessionFooterBytes, kSessionFooterBytes}};
  for (size_t c = 0; c < 3; ++c) {
    parts.push_back(
        {kSessionHeaderBytes + c * (kChunkHeaderBytes + kChunkBytes),
         kChunkHeaderBytes});
  }
  for (const auto& [first, count] : parts) {
    for (size_t bit = first * 8; bit < (first + count) * 8; ++bit) {
      const std::byte flipped =
          file[bit / 8] ^ static_cast<std::byte>(1 << bit % 8);
      EXPECT_EQ(WithBytes(bit / 8, {&flipped, 1}).code(), StatusCode::kModel)
          << "bit " << bit;
    }
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(SessionFileTest, RandomBitsOfThePayloadCount) {
  ASSERT_TRUE(Write(RandomBytes(kChunkBytes / 4, 3)).ok());
  const auto file = FileBytes();
  std::mt19937 random(4);
  for (int i = 0; i < 10000; ++i) {
    const size_t bit = random() % (file.size() * 8);
    const std::byte flipped =
        file[bit / 8] ^ static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(WithBytes(bit / 8, {&flipped, 1}).code(), StatusCode::kModel)
        << "bit " << bit;
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(SessionFileTest, TruncationAnywhereIsRefused) {
  ASSERT_TRUE(Write(RandomBytes(2 * kChunkBytes + 500, 5)).ok());
  const auto file = FileBytes();
  std::vector<size_t> sizes = {0, 1, 7, 8, 9};
  constexpr size_t kWhole = kChunkHeaderBytes + kChunkBytes;
  for (size_t c = 0; c < 3; ++c) {
    for (size_t at : {size_t{0}, kChunkHeaderBytes, kWhole}) {
      for (int near : {-1, 0, 1}) {
        sizes.push_back(kSessionHeaderBytes + c * kWhole + at + near);
      }
    }
  }
  std::mt19937 random(6);
  for (int i = 0; i < 1000; ++i) sizes.push_back(random() % file.size());
  std::sort(sizes.rbegin(), sizes.rend());
  for (size_t size : sizes) {
    if (size >= file.size()) continue;
    fs::resize_file(path_, size);
    EXPECT_EQ(Verify().code(), StatusCode::kModel) << size;
  }
  auto longer = file;
  longer.push_back({});
  Replace(longer);
  EXPECT_EQ(Verify().code(), StatusCode::kModel);
}

// Checksums that fit do not make a count fit.
TEST_F(SessionFileTest, ForgedCountsAreRefused) {
  ASSERT_TRUE(Write(RandomBytes(kChunkBytes + 500, 7)).ok());
  auto file = FileBytes();
  const size_t footer = file.size() - kSessionFooterBytes;
  std::vector<uint64_t> parts = {
      LoadLittle<uint64_t>(&file[kSessionHeaderBytes - 8])};
  constexpr size_t kWhole = kChunkHeaderBytes + kChunkBytes;
  for (size_t c = 0; c < 2; ++c) {
    parts.push_back(
        LoadLittle<uint64_t>(&file[kSessionHeaderBytes + c * kWhole + 8]));
  }
  const auto seal = [&] {
    StoreLittle(FooterChecksum(parts, std::span(file).subspan(footer, 24)),
                &file[footer + 24]);
    Replace(file);
  };
  seal();
  ASSERT_TRUE(Verify().ok());
  for (uint64_t count : {0u, 1u, 3u, 0xffffffffu}) {
    auto sound = file;
    StoreLittle(static_cast<uint32_t>(count), &file[footer + 8]);
    seal();
    EXPECT_EQ(Verify().code(), StatusCode::kModel) << count;
    file = sound;
  }
  for (uint64_t bytes : {uint64_t{0}, uint64_t{500}, ~uint64_t{0}}) {
    auto sound = file;
    StoreLittle(bytes, &file[footer + 16]);
    seal();
    EXPECT_EQ(Verify().code(), StatusCode::kModel) << bytes;
    file = sound;
  }
}

// A sound chunk at the place of another, or out of another save.
TEST_F(SessionFileTest, ChunksBelongToTheirPlaceAndSave) {
  const auto bytes = RandomBytes(3 * kChunkBytes, 8);
  constexpr size_t kWhole = kChunkHeaderBytes + kChunkBytes;
  SessionFileId next = kId;
  next.generation += 1;
  ASSERT_TRUE(Write(bytes, next).ok());
  const auto other = FileBytes();
  ASSERT_TRUE(Write(bytes).ok());
  const auto file = FileBytes();
  EXPECT_EQ(
      WithBytes(kSessionHeaderBytes,
                std::span(file).subspan(kSessionHeaderBytes + kWhole, kWhole))
          .code(),
      StatusCode::kModel);
  EXPECT_EQ(WithBytes(kSessionHeaderBytes,
                      std::span(other).subspan(kSessionHeaderBytes, kWhole))
                .code(),
            StatusCode::kModel);
  EXPECT_TRUE(Verify().ok());
}

TEST_F(SessionFileTest, OtherFilesAreNamedAsSuch) {
  EXPECT_THAT(Verify().message(), HasSubstr("cannot open"));
  Replace(RandomBytes(1000, 9));
  EXPECT_THAT(Verify().message(), HasSubstr("not a session file"));
  EXPECT_EQ(SessionFileReader::Open(directory_.string()).status().code(),
            StatusCode::kModel);
  ASSERT_TRUE(Write(RandomBytes(10, 1)).code() == StatusCode::kOk);
  auto file = FileBytes();
  StoreLittle(kSessionFileVersion + 1, &file[8]);
  StoreLittle(HeaderChecksum(std::span(file).first(kSessionHeaderBytes - 8)),
              &file[kSessionHeaderBytes - 8]);
  Replace(file);
  EXPECT_THAT(Verify().message(), HasSubstr("version 4, expected 3"));
}

TEST_F(SessionFileTest, AnAbandonedWriteLeavesTheOldFile) {
  ASSERT_TRUE(Write(RandomBytes(100, 1)).ok());
  const auto before = FileBytes();
  {
    auto writer = SessionFileWriter::Create(path_, kId);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(RandomBytes(2 * kChunkBytes, 2)).ok());
    EXPECT_EQ(FilesInDirectory(), 2);
  }
  EXPECT_EQ(FilesInDirectory(), 1);
  EXPECT_EQ(FileBytes(), before);
}

// In a process of its own: the limit is one of the process.
TEST_F(SessionFileTest, NoRoomIsAnErrorAndLeavesTheOldFile) {
  ASSERT_TRUE(Write(RandomBytes(100, 1)).ok());
  const auto before = FileBytes();
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {kChunkBytes + 1000, kChunkBytes + 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const Status status = Write(RandomBytes(3 * kChunkBytes, 2));
    const bool named = status.message().find("too large") != std::string::npos;
    _exit(status.code() == StatusCode::kRuntime && named ? 0 : 1);
  }
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(FilesInDirectory(), 1);
  EXPECT_EQ(FileBytes(), before);
}

// Writes a part of what it is asked for, now and then nothing; fails after
// some bytes, or where it is told to.
class StutteringCalls : public SessionFileCalls {
 public:
  struct Plan {
    size_t most = std::numeric_limits<size_t>::max();  // of one write
    int64_t room = std::numeric_limits<int64_t>::max();
    int write_error = ENOSPC;  // behind it; 0: writes nothing
    int sync_error = 0;
    int rename_error = 0;
  };
  explicit StutteringCalls(const Plan& plan) : plan_(plan) {}

  ssize_t Write(int fd, std::span<const std::byte> bytes) override {
    if (calls_++ % 3 == 1) return Fail(EINTR);
    if (plan_.room <= 0) {
      return plan_.write_error == 0 ? 0 : Fail(plan_.write_error);
    }
    const size_t most = std::min<size_t>(plan_.most, plan_.room);
    const ssize_t n =
        SessionFileCalls::Write(fd, bytes.first(std::min(most, bytes.size())));
    plan_.room -= n;
    return n;
  }
  int Sync(int fd) override {
    return plan_.sync_error != 0 ? static_cast<int>(Fail(plan_.sync_error))
                                 : SessionFileCalls::Sync(fd);
  }
  int Rename(const char* from, const char* to) override {
    return plan_.rename_error != 0 ? static_cast<int>(Fail(plan_.rename_error))
                                   : SessionFileCalls::Rename(from, to);
  }

 private:
  static ssize_t Fail(int error) {
    errno = error;
    return -1;
  }
  Plan plan_;
  int calls_ = 0;
};

TEST_F(SessionFileTest, ShortWritesAreGoneOnWith) {
  const auto bytes = RandomBytes(kChunkBytes + 12345, 1);
  ASSERT_TRUE(Write(bytes).ok());
  const auto want = FileBytes();
  for (size_t most : {size_t{7}, size_t{4096}, kChunkBytes - 1}) {
    const size_t size = most < 100 ? 5000 : bytes.size();
    StutteringCalls::Plan plan;
    plan.most = most;
    auto writer = SessionFileWriter::Create(
        path_, kId, std::make_unique<StutteringCalls>(plan));
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(std::span(bytes).first(size)).ok());
    ASSERT_TRUE((*writer)->Commit().ok());
    EXPECT_TRUE(Verify().ok());
    if (size == bytes.size()) {
      EXPECT_EQ(FileBytes(), want);
    }
  }
}

// Wherever it is: the error says what, and the old file is as it was.
TEST_F(SessionFileTest, WhatFailsLeavesTheOldFile) {
  const auto bytes = RandomBytes(kChunkBytes + 500, 1);
  ASSERT_TRUE(Write(RandomBytes(100, 2)).ok());
  const auto before = FileBytes();
  std::vector<std::pair<StutteringCalls::Plan, const char*>> plans;
  std::mt19937 random(3);
  const auto whole =
      static_cast<int64_t>(kSessionHeaderBytes + 2 * kChunkHeaderBytes +
                           bytes.size() + kSessionFooterBytes);
  for (int i = 0; i < 60; ++i) {
    StutteringCalls::Plan plan;
    plan.most = 100'000;
    plan.room = i < 10 ? i * 13 : i < 20 ? whole - i + 9 : random() % whole;
    plan.write_error = i % 3 == 0 ? 0 : i % 3 == 1 ? ENOSPC : EIO;
    plans.emplace_back(plan, i % 3 == 2 ? "nput/output" : "No space left");
  }
  for (const bool rename : {false, true}) {
    StutteringCalls::Plan plan;
    (rename ? plan.rename_error : plan.sync_error) = rename ? EROFS : EIO;
    plans.emplace_back(plan, rename ? "ead-only" : "nput/output");
  }
  for (const auto& [plan, named] : plans) {
    const auto save = [&, &p = plan]() -> Status {
      PKV_ASSIGN_OR_RETURN(
          auto writer, SessionFileWriter::Create(
                           path_, kId, std::make_unique<StutteringCalls>(p)));
      PKV_RETURN_IF_ERROR(writer->Append(bytes));
      return writer->Commit();
    };
    const Status status = save();
    EXPECT_EQ(status.code(), StatusCode::kRuntime) << plan.room;
    EXPECT_THAT(status.message(), HasSubstr(named));
    EXPECT_THAT(status.message(), HasSubstr(path_));
    EXPECT_EQ(FilesInDirectory(), 1);
    EXPECT_EQ(FileBytes(), before);
  }
}

TEST_F(SessionFileTest, TheNextWriterRemovesWhatADeadOneLeft) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int result = 0;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  const std::string dead = path_ + ".tmp-" + std::to_string(child) + "-0";
  const std::string alive = path_ + ".tmp-" + std::to_string(getpid()) + "-0";
  const std::string others = path_ + "2.tmp-" + std::to_string(child) + "-0";
  const std::string unlike = path_ + ".tmp-notes";
  for (const auto& name : {dead, alive, others, unlike}) std::ofstream{name};
  ASSERT_TRUE(Write(RandomBytes(100, 1)).ok());
  EXPECT_FALSE(fs::exists(dead));
  for (const auto& name : {alive, others, unlike}) {
    EXPECT_TRUE(fs::exists(name)) << name;
  }
  // A process id comes again: an old file that nobody holds is litter, too.
  fs::last_write_time(
      alive, fs::file_time_type::clock::now() - std::chrono::minutes(2));
  ASSERT_TRUE(Write(RandomBytes(100, 1)).ok());
  EXPECT_FALSE(fs::exists(alive));
}

TEST_F(SessionFileTest, LinksAreFollowedAndModesKept) {
  ASSERT_TRUE(Write(RandomBytes(100, 1)).ok());
  fs::permissions(path_, fs::perms::owner_read | fs::perms::owner_write);
  const std::string file = path_;
  path_ = (directory_ / "link").string();
  fs::create_symlink(file, path_);
  ASSERT_TRUE(Write(RandomBytes(200, 2)).ok());
  EXPECT_TRUE(fs::is_symlink(path_));
  EXPECT_GT(fs::file_size(file), 200u);
  EXPECT_EQ(fs::status(file).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(SessionFileTest, TargetsThatAreNoFilesAreRefused) {
  for (const std::string& path :
       {directory_.string(), std::string("/dev/null")}) {
    EXPECT_EQ(SessionFileWriter::Create(path, kId).status().code(),
              StatusCode::kUsage);
  }
  EXPECT_EQ(SessionFileWriter::Create(path_ + "/x", kId).status().code(),
            StatusCode::kRuntime);
}

}  // namespace
}  // namespace pyramidkv
