// FileCalls that fail, stutter and do less than they are asked for.

#ifndef PYRAMIDKV_CACHE_TESTING_FAILING_CALLS_H_
#define PYRAMIDKV_CACHE_TESTING_FAILING_CALLS_H_

#include <atomic>
#include <cerrno>

#include "cache/block_file.h"

namespace pyramidkv {

// Faults; the test keeps them and changes them as it likes.
struct Failures {
  std::atomic<int64_t> disk_bytes{int64_t{1} << 40};  // that can be allocated
  std::atomic<int> write_error{0};                    // errno of all writes
  std::atomic<int> writes_until_error{0};
  std::atomic<int> read_error{0};
  std::atomic<bool> reads_end{false};  // as if the file were too short
  std::atomic<int> sync_error{0};
  std::atomic<bool> stutter{false};  // EINTR, and a part of what was asked for
  std::atomic<int> calls{0};
  std::atomic<int> reads{0};
  std::atomic<bool> no_direct_reads{false};
  std::atomic<int> open_error{0};  // of O_TMPFILE
  std::atomic<int> fd{-1};         // the file's
};

class FailingCalls : public FileCalls {
 public:
  explicit FailingCalls(Failures* failures) : failures_(failures) {}

  int OpenTemporary(const char* directory) override {
    return failures_->open_error != 0
               ? static_cast<int>(Fail(failures_->open_error))
               : FileCalls::OpenTemporary(directory);
  }

  int Allocate(int fd, int64_t offset, int64_t bytes) override {
    failures_->fd = fd;
    if (offset + bytes > failures_->disk_bytes) return ENOSPC;
    return FileCalls::Allocate(fd, offset, bytes);
  }

  ssize_t Write(int fd, const iovec* pieces, int count,
                int64_t offset) override {
    if (failures_->write_error != 0 && failures_->writes_until_error-- <= 0) {
      return Fail(failures_->write_error);
    }
    if (!failures_->stutter) return FileCalls::Write(fd, pieces, count, offset);
    if (failures_->calls++ % 3 == 0) return Fail(EINTR);
    const iovec part = {pieces->iov_base, pieces->iov_len / 2 + 1};
    return FileCalls::Write(fd, &part, 1, offset);
  }

  ssize_t Read(int fd, const iovec* pieces, int count,
               int64_t offset) override {
    ++failures_->reads;
    if (failures_->no_direct_reads && fd != failures_->fd) return Fail(EINVAL);
    if (failures_->read_error != 0) return Fail(failures_->read_error);
    if (failures_->reads_end) return 0;
    if (!failures_->stutter) return FileCalls::Read(fd, pieces, count, offset);
    if (failures_->calls++ % 3 == 0) return Fail(EINTR);
    // Half of the pieces, or of one; whole sectors, as direct reads need.
    if (count > 1) return FileCalls::Read(fd, pieces, (count + 1) / 2, offset);
    const size_t half = pieces->iov_len / 1024 * 512;
    const iovec part = {pieces->iov_base, half > 0 ? half : pieces->iov_len};
    return FileCalls::Read(fd, &part, 1, offset);
  }

  int Sync(int fd) override {
    return failures_->sync_error != 0
               ? static_cast<int>(Fail(failures_->sync_error))
               : FileCalls::Sync(fd);
  }

 private:
  static ssize_t Fail(int error) {
    errno = error;
    return -1;
  }
  Failures* failures_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_FAILING_CALLS_H_
