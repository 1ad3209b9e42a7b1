#include "cache/block_file.h"

#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

#include "cache/testing/failing_calls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;

constexpr int kBlocks = 300;

struct AlignedBytes {
  explicit AlignedBytes(size_t bytes)
      : data(static_cast<std::byte*>(
            std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096))) {
    std::memset(data, 0, bytes);
  }
  ~AlignedBytes() { std::free(data); }
  std::byte* data;
};

// A block's content: its number, all over.
std::vector<std::byte> Content(int block, size_t bytes) {
  std::vector<std::byte> content(bytes);
  for (size_t i = 0; i < bytes; ++i) {
    content[i] = static_cast<std::byte>(block * 7 + i / 16);
  }
  return content;
}

std::unique_ptr<BlockFile> Make(size_t block_bytes,
                                Failures* failures = nullptr) {
  auto file = BlockFile::Create(
      "", block_bytes,
      failures == nullptr ? nullptr : std::make_unique<FailingCalls>(failures));
  EXPECT_TRUE(file.ok()) << file.status().message();
  return std::move(*file);
}

void WriteAll(BlockFile* file) {
  const size_t bytes = file->block_bytes();
  const auto begin = file->Extend(kBlocks);
  ASSERT_TRUE(begin.ok());
  for (int b = 0; b < kBlocks; ++b) {
    const auto content = Content(b, bytes);
    ASSERT_TRUE(file->Write(*begin + b * bytes, content.data(), bytes).ok());
  }
}

void CheckRandomReads(const BlockFile& file) {
  const size_t bytes = file.block_bytes();
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    const int n = 1 + static_cast<int>(random() % 20);
    const int first = static_cast<int>(random() % (kBlocks - n));
    AlignedBytes buffer(n * bytes);
    std::vector<iovec> pieces;  // last block first
    for (int b = n; b-- > 0;) {
      pieces.push_back({buffer.data + b * bytes, bytes});
    }
    ASSERT_EQ(file.Read(first * bytes, pieces), 0);
    for (int b = 0; b < n; ++b) {
      const auto want = Content(first + b, bytes);
      ASSERT_EQ(std::memcmp(pieces[b].iov_base, want.data(), bytes), 0);
    }
  }
}

// Bytes of the file that the system holds in memory.
int64_t CachedBytes(int fd, int64_t bytes) {
  void* const map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  EXPECT_NE(map, MAP_FAILED);
  std::vector<unsigned char> held((bytes + 4095) / 4096);
  EXPECT_EQ(mincore(map, bytes, held.data()), 0);
  munmap(map, bytes);
  return 4096 * std::count_if(held.begin(), held.end(),
                              [](unsigned char c) { return (c & 1) != 0; });
}

bool IsInMemory(int fd) {
  constexpr long kTmpfs = 0x01021994;
  struct statfs info;
  return fstatfs(fd, &info) != 0 || info.f_type == kTmpfs;
}

// Whole sectors are read in place, the others by way of a copy.
TEST(BlockFile, ReadsWhatWasWrittenAndLeavesNoCopies) {
  for (const size_t bytes : {64, 1152, 2176, 4096, 8192}) {
    for (const bool direct : {true, false}) {
      Failures failures;
      failures.no_direct_reads = !direct;
      const auto file = Make(bytes, &failures);
      WriteAll(file.get());
      CheckRandomReads(*file);
      ASSERT_TRUE(file->Settle().ok());
      CheckRandomReads(*file);
      if (IsInMemory(failures.fd)) continue;
      EXPECT_EQ(CachedBytes(failures.fd, file->bytes()), 0) << bytes << direct;
    }
  }
}

TEST(BlockFile, GoesOnAfterShortAndInterruptedCalls) {
  for (const size_t bytes : {1152, 4096, 8192}) {
    Failures failures;
    failures.stutter = true;
    const auto file = Make(bytes, &failures);
    WriteAll(file.get());
    CheckRandomReads(*file);
  }
}

// With O_TMPFILE and without.
TEST(BlockFile, LeavesNoNameBehind) {
  char name[] = "/tmp/block_file_test_XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  for (const int error : {0, EOPNOTSUPP, EISDIR}) {
    Failures failures;
    failures.open_error = error;
    const auto file = BlockFile::Create(
        name, 4096, std::make_unique<FailingCalls>(&failures));
    ASSERT_TRUE(file.ok());
    WriteAll(file->get());
    CheckRandomReads(**file);
    EXPECT_TRUE(std::filesystem::is_empty(name));
  }
  std::filesystem::remove(name);
}

TEST(BlockFile, SaysWhereThereCanBeNoFile) {
  const auto file = BlockFile::Create("/nowhere/at/all", 4096);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kRuntime);
  EXPECT_THAT(file.status().message(), HasSubstr("/nowhere/at/all"));
}

TEST(BlockFile, AFullDiskIsAnErrorBeforeAnythingIsWritten) {
  Failures failures;
  failures.disk_bytes = 5000000;  // less than a step
  const auto file = Make(4096, &failures);
  ASSERT_TRUE(file->Extend(1000).ok());
  EXPECT_EQ(file->bytes(), 1000 * 4096);
  const auto full = file->Extend(300);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.status().code(), StatusCode::kRuntime);
  EXPECT_THAT(full.status().message(), HasSubstr("1228800 more bytes"));
  EXPECT_EQ(file->bytes(), 1000 * 4096);
  failures.disk_bytes = int64_t{1} << 40;
  const auto later = file->Extend(300);
  ASSERT_TRUE(later.ok());
  EXPECT_EQ(*later, 1000 * 4096);
  file->Clear();
  EXPECT_EQ(file->bytes(), 0);
  EXPECT_EQ(*file->Extend(1), 0);
}

TEST(BlockFile, ReportsFailedCalls) {
  Failures failures;
  const auto file = Make(4096, &failures);
  WriteAll(file.get());
  const auto content = Content(0, 4096);
  failures.write_error = EIO;
  EXPECT_FALSE(file->Write(0, content.data(), 4096).ok());
  failures.sync_error = EIO;
  EXPECT_FALSE(file->Settle().ok());
  AlignedBytes buffer(4096);
  const iovec piece = {buffer.data, 4096};
  failures.read_error = EIO;
  EXPECT_EQ(file->Read(0, {&piece, 1}), EIO);
  failures.read_error = 0;
  failures.reads_end = true;
  EXPECT_EQ(file->Read(0, {&piece, 1}), EIO);
  EXPECT_THAT(file->ReadError(EIO).message(), HasSubstr("cannot read"));
}

}  // namespace
}  // namespace pyramidkv
