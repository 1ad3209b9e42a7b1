// A file without a name that holds blocks of one size: opened with O_TMPFILE,
// or unlinked as soon as it is open, so that nothing is left of it however the
// process ends (where there is no O_TMPFILE, the next one removes what a
// process left that died between the two).
//
// Space is allocated before anything is written to it. Reads leave nothing in
// the system's page cache, Settle takes out what writes left there: memory that
// a cold tier gives back is not held in another place.
//
// Thread safety: Read from any thread, also while others Write elsewhere;
// everything else from one thread.

#ifndef PYRAMIDKV_CACHE_BLOCK_FILE_H_
#define PYRAMIDKV_CACHE_BLOCK_FILE_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "pyramidkv/status.h"

namespace pyramidkv {

// The system calls, for tests that make them fail.
class FileCalls {
 public:
  virtual ~FileCalls() = default;
  virtual int OpenTemporary(const char* directory);             // O_TMPFILE
  virtual int Allocate(int fd, int64_t offset, int64_t bytes);  // errno or 0
  virtual ssize_t Write(int fd, const iovec* pieces, int count, int64_t offset);
  virtual ssize_t Read(int fd, const iovec* pieces, int count, int64_t offset);
  virtual int Sync(int fd);
};

class BlockFile {
 public:
  // More pieces the system does not take at once.
  static constexpr int kMostPieces = 256;
  // Allocated at once, if there is room.
  static constexpr int64_t kGrowBytes = int64_t{8} << 20;

  // directory: empty for the system's. calls: null for the system's.
  // Errors: kRuntime if there can be no such file there.
  static Result<std::unique_ptr<BlockFile>> Create(
      const std::string& directory, size_t block_bytes,
      std::unique_ptr<FileCalls> calls = nullptr);
  ~BlockFile();
  BlockFile(const BlockFile&) = delete;
  BlockFile& operator=(const BlockFile&) = delete;

  // Room for `blocks` adjacent blocks; returns the offset of the first.
  // Errors: kRuntime if the disk is full; nothing has changed.
  Result<int64_t> Extend(int blocks);

  // Writes adjacent blocks. Errors: kRuntime.
  Status Write(int64_t offset, const std::byte* data, size_t bytes);

  // Reads what lies at `offset` into the pieces, at most kMostPieces of whole
  // blocks. Returns 0 or an errno; EIO also where the file is too short.
  int Read(int64_t offset, std::span<const iovec> pieces) const;
  Status ReadError(int error) const;

  // Waits until all is on the disk, and has the system forget its copies.
  Status Settle();

  // Forgets all blocks and gives their room back. REQUIRES: no reads.
  void Clear();

  size_t block_bytes() const { return block_bytes_; }
  int64_t bytes() const { return allocated_; }
  int64_t written_bytes() const { return written_; }

 private:
  BlockFile(std::string directory, size_t block_bytes,
            std::unique_ptr<FileCalls> calls);
  Status Open();
  int ReadFrom(int fd, int64_t offset, std::span<const iovec> pieces) const;
  // Direct reads of what is not whole sectors: by way of a copy.
  int ReadSectors(int64_t offset, std::span<const iovec> pieces) const;
  Status Failed(const char* what, int error) const;

  std::string directory_;
  size_t block_bytes_;
  std::unique_ptr<FileCalls> calls_;
  int fd_ = -1;
  // For reads past the page cache: 1.2 to 1.5 times as fast as reading into it
  // and dropping the pages again. -1: the file system has none.
  int direct_fd_ = -1;
  mutable std::atomic<bool> direct_works_{true};
  int64_t used_ = 0;
  int64_t allocated_ = 0;
  int64_t written_ = 0;
  int64_t dirty_ = 0;  // written since the disk was last asked to begin
  bool unsettled_ = false;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_BLOCK_FILE_H_
