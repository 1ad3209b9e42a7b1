#include "cache/block_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/temporary_file.h"
#include "fmt/format.h"

namespace pyramidkv {
namespace {

constexpr int64_t kSectorBytes = 4096;  // enough for any disk's direct reads

int64_t RoundDown(int64_t n, int64_t unit) { return n / unit * unit; }
int64_t RoundUp(int64_t n, int64_t unit) {
  return RoundDown(n + unit - 1, unit);
}

// -1 with errno set if there can be none.
int OpenUnnamed(const std::string& directory, FileCalls* calls) {
  const int fd = calls->OpenTemporary(directory.c_str());
  // Errors where file systems or kernels do not know O_TMPFILE.
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) {
    return fd;
  }
  const std::string path = directory + "/pyramidkv-cold";
  RemoveStaleTemporaries(path);
  std::string name;
  const int named = OpenTemporary(path, S_IRUSR | S_IWUSR, &name);
  if (named >= 0) unlink(name.c_str());
  return named;
}

// Takes what was done off the front of the pieces.
void Advance(size_t bytes, std::vector<iovec>* pieces) {
  auto piece = pieces->begin();
  while (piece != pieces->end() && bytes >= piece->iov_len) {
    bytes -= piece->iov_len;
    ++piece;
  }
  pieces->erase(pieces->begin(), piece);
  if (pieces->empty()) return;
  iovec& first = pieces->front();
  first.iov_base = static_cast<std::byte*>(first.iov_base) + bytes;
  first.iov_len -= bytes;
}

size_t Bytes(std::span<const iovec> pieces) {
  size_t sum = 0;
  for (const iovec& piece : pieces) sum += piece.iov_len;
  return sum;
}

bool IsAligned(int64_t offset, std::span<const iovec> pieces) {
  return offset % kSectorBytes == 0 &&
         std::all_of(pieces.begin(), pieces.end(), [](const iovec& piece) {
           return (reinterpret_cast<uintptr_t>(piece.iov_base) |
                   piece.iov_len) %
                      kSectorBytes ==
                  0;
         });
}

}  // namespace

int FileCalls::OpenTemporary(const char* directory) {
  return open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
}
int FileCalls::Allocate(int fd, int64_t offset, int64_t bytes) {
  return posix_fallocate(fd, offset, bytes);
}
ssize_t FileCalls::Write(int fd, const iovec* pieces, int count,
                         int64_t offset) {
  return pwritev(fd, pieces, count, offset);
}
ssize_t FileCalls::Read(int fd, const iovec* pieces, int count,
                        int64_t offset) {
  return preadv(fd, pieces, count, offset);
}
int FileCalls::Sync(int fd) { return fdatasync(fd); }

BlockFile::BlockFile(std::string directory, size_t block_bytes,
                     std::unique_ptr<FileCalls> calls)
    : directory_(std::move(directory)),
      block_bytes_(block_bytes),
      calls_(std::move(calls)) {}

BlockFile::~BlockFile() {
  if (direct_fd_ >= 0) close(direct_fd_);
  if (fd_ >= 0) close(fd_);
}

Status BlockFile::Failed(const char* what, int error) const {
  return Status::Runtime(fmt::format("{} the file of the cold tier in {}: {}",
                                     what, directory_, std::strerror(error)));
}

Result<std::unique_ptr<BlockFile>> BlockFile::Create(
    const std::string& directory, size_t block_bytes,
    std::unique_ptr<FileCalls> calls) {
  std::string where = directory;
  if (where.empty()) {
    std::error_code error;
    where = std::filesystem::temp_directory_path(error).string();
    if (error) {
      return Status::Runtime(
          "there is no directory for temporary files; name one for the cold "
          "tier");
    }
  }
  if (calls == nullptr) calls = std::make_unique<FileCalls>();
  std::unique_ptr<BlockFile> file(
      new BlockFile(std::move(where), block_bytes, std::move(calls)));
  PKV_RETURN_IF_ERROR(file->Open());
  return file;
}

Status BlockFile::Open() {
  fd_ = OpenUnnamed(directory_, calls_.get());
  if (fd_ < 0) return Failed("cannot make", errno);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
  const std::string path = fmt::format("/proc/self/fd/{}", fd_);
  direct_fd_ = open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  return {};
}

Result<int64_t> BlockFile::Extend(int blocks) {
  const int64_t offset = used_;
  const int64_t end = offset + static_cast<int64_t>(block_bytes_) * blocks;
  if (end > allocated_) {
    int64_t size = RoundUp(end, kGrowBytes);
    int error = calls_->Allocate(fd_, allocated_, size - allocated_);
    if (error != 0) {
      size = RoundUp(end, kSectorBytes);  // room for this at least?
      error = calls_->Allocate(fd_, allocated_, size - allocated_);
    }
    if (error != 0) {
      return Status::Runtime(fmt::format(
          "the cold tier needs {} more bytes in {} ({} so far): {}",
          end - allocated_, directory_, allocated_, std::strerror(error)));
    }
    allocated_ = size;
  }
  used_ = end;
  return offset;
}

Status BlockFile::Write(int64_t offset, const std::byte* data, size_t bytes) {
  DCHECK(offset >= 0 && offset + static_cast<int64_t>(bytes) <= used_);
  unsettled_ = true;
  while (bytes > 0) {
    const iovec piece = {const_cast<std::byte*>(data), bytes};
    const ssize_t done = calls_->Write(fd_, &piece, 1, offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return Failed("cannot write", done < 0 ? errno : EIO);
    data += done;
    offset += done;
    bytes -= done;
    written_ += done;
    dirty_ += done;
  }
  if (dirty_ >= kGrowBytes) {
    // Begins to write what is new and forgets what is written, so that Settle
    // need not wait for all of it.
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
    dirty_ = 0;
  }
  return {};
}

int BlockFile::ReadFrom(int fd, int64_t offset,
                        std::span<const iovec> pieces) const {
  std::vector<iovec> rest;  // once a read was short
  size_t bytes = Bytes(pieces);
  while (bytes > 0) {
    const ssize_t done = calls_->Read(fd, pieces.data(),
                                      static_cast<int>(pieces.size()), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    if (done == 0) return EIO;
    bytes -= done;
    offset += done;
    if (bytes == 0) break;
    if (rest.empty()) rest.assign(pieces.begin(), pieces.end());
    Advance(done, &rest);
    pieces = rest;
  }
  return 0;
}

int BlockFile::ReadSectors(int64_t offset,
                           std::span<const iovec> pieces) const {
  const int64_t begin = RoundDown(offset, kSectorBytes);
  const int64_t end =
      RoundUp(offset + static_cast<int64_t>(Bytes(pieces)), kSectorBytes);
  const size_t bytes = end - begin;
  const std::unique_ptr<void, decltype(&std::free)> buffer(
      std::aligned_alloc(kSectorBytes, bytes), &std::free);
  if (buffer == nullptr) return ENOMEM;
  const iovec all = {buffer.get(), bytes};
  const int error = ReadFrom(direct_fd_, begin, std::span(&all, 1));
  if (error != 0) return error;
  const auto* from = static_cast<std::byte*>(buffer.get()) + (offset - begin);
  for (const iovec& piece : pieces) {
    std::memcpy(piece.iov_base, from, piece.iov_len);
    from += piece.iov_len;
  }
  return 0;
}

int BlockFile::Read(int64_t offset, std::span<const iovec> pieces) const {
  DCHECK(pieces.size() <= kMostPieces);
  if (direct_fd_ >= 0 && direct_works_.load(std::memory_order_relaxed)) {
    const int error = IsAligned(offset, pieces)
                          ? ReadFrom(direct_fd_, offset, pieces)
                          : ReadSectors(offset, pieces);
    if (error != EINVAL) return error;
    direct_works_.store(false, std::memory_order_relaxed);
  }
  const int error = ReadFrom(fd_, offset, pieces);
  const int64_t begin = RoundDown(offset, kSectorBytes);
  const int64_t end =
      RoundUp(offset + static_cast<int64_t>(Bytes(pieces)), kSectorBytes);
  posix_fadvise(fd_, begin, end - begin, POSIX_FADV_DONTNEED);
  return error;
}

Status BlockFile::ReadError(int error) const {
  return Failed("cannot read", error);
}

Status BlockFile::Settle() {
  if (!unsettled_) return {};
  if (calls_->Sync(fd_) != 0) return Failed("cannot sync", errno);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  unsettled_ = false;
  return {};
}

void BlockFile::Clear() {
  // If it fails, the room is used again all the same.
  if (ftruncate(fd_, 0) == 0) allocated_ = 0;
  used_ = 0;
  unsettled_ = false;
}

}  // namespace pyramidkv
