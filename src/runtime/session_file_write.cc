// Writing session files: SessionFileWriter.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/temporary_file.h"
#include "fmt/format.h"
#include "runtime/little_endian.h"
#include "runtime/session_checksum.h"
#include "runtime/session_file.h"

namespace pyramidkv {
namespace {

// Where the file really is: renaming over a symbolic link would replace it.
std::string ResolveLinks(const std::string& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}

}  // namespace

void RemoveSessionLitter(const std::string& path) {
  RemoveStaleTemporaries(ResolveLinks(path));
}

ssize_t SessionFileCalls::Write(int fd, std::span<const std::byte> bytes) {
  return write(fd, bytes.data(), bytes.size());
}
int SessionFileCalls::Sync(int fd) { return fsync(fd); }
int SessionFileCalls::Rename(const char* from, const char* to) {
  return rename(from, to);
}

SessionFileWriter::SessionFileWriter(std::string path, const SessionFileId& id,
                                     std::unique_ptr<SessionFileCalls> calls)
    : path_(std::move(path)), id_(id), calls_(std::move(calls)) {
  if (calls_ == nullptr) calls_ = std::make_unique<SessionFileCalls>();
  chunk_.reserve(kChunkHeaderBytes + kChunkBytes);
  chunk_.resize(kChunkHeaderBytes);
}

SessionFileWriter::~SessionFileWriter() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
  if (fd_ >= 0) close(fd_);
}

Status SessionFileWriter::Failed(const char* what, int error) const {
  return Status::Runtime(fmt::format("cannot save the session: {} {}: {}", what,
                                     path_, strerror(error)));
}

Result<std::unique_ptr<SessionFileWriter>> SessionFileWriter::Create(
    const std::string& path, const SessionFileId& id,
    std::unique_ptr<SessionFileCalls> calls) {
  std::unique_ptr<SessionFileWriter> writer(
      new SessionFileWriter(ResolveLinks(path), id, std::move(calls)));
  PKV_RETURN_IF_ERROR(writer->OpenBeside());
  std::vector<std::byte> header(kSessionHeaderBytes);
  std::memcpy(header.data(), "PKVSESS\x1a", 8);
  StoreLittle(kSessionFileVersion, &header[8]);
  StoreLittle(static_cast<uint32_t>(kSessionHeaderBytes), &header[12]);
  StoreLittle(id.session[0], &header[16]);
  StoreLittle(id.session[1], &header[24]);
  StoreLittle(id.generation, &header[32]);
  StoreLittle(static_cast<uint32_t>(kChunkBytes), &header[40]);
  const uint64_t checksum =
      HeaderChecksum(std::span(header).first(kSessionHeaderBytes - 8));
  StoreLittle(checksum, &header[kSessionHeaderBytes - 8]);
  writer->checksums_.push_back(checksum);
  PKV_RETURN_IF_ERROR(writer->WriteAll(header));
  return writer;
}

Status SessionFileWriter::OpenBeside() {
  struct stat old;
  const bool exists = stat(path_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    return Status::Usage(fmt::format(
        "cannot save the session: {} is not a regular file", path_));
  }
  RemoveSessionLitter(path_);
  fd_ = OpenTemporary(path_, 0666, &temporary_);
  if (fd_ < 0) {
    temporary_.clear();
    return Failed("writing beside", errno);
  }
  if (exists && fchmod(fd_, old.st_mode & 07777) != 0) {
    return Failed("keeping the mode of", errno);
  }
  return {};
}

Status SessionFileWriter::WriteAll(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = calls_->Write(fd_, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Failed("writing", n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status SessionFileWriter::Append(std::span<const std::byte> bytes) {
  payload_bytes_ += bytes.size();
  while (!bytes.empty()) {
    const size_t room = kChunkHeaderBytes + kChunkBytes - chunk_.size();
    const auto part = bytes.first(std::min(room, bytes.size()));
    chunk_.insert(chunk_.end(), part.begin(), part.end());
    bytes = bytes.subspan(part.size());
    if (part.size() == room) PKV_RETURN_IF_ERROR(FlushChunk());
  }
  return {};
}

Status SessionFileWriter::FlushChunk() {
  const auto index = static_cast<uint32_t>(checksums_.size() - 1);
  const auto bytes = std::span(chunk_).subspan(kChunkHeaderBytes);
  const uint64_t checksum = ChunkChecksum(id_, index, bytes);
  StoreLittle(index, &chunk_[0]);
  StoreLittle(static_cast<uint32_t>(bytes.size()), &chunk_[4]);
  StoreLittle(checksum, &chunk_[8]);
  PKV_RETURN_IF_ERROR(WriteAll(chunk_));
  checksums_.push_back(checksum);
  chunk_.resize(kChunkHeaderBytes);
  return {};
}

Status SessionFileWriter::Commit() {
  if (chunk_.size() > kChunkHeaderBytes) PKV_RETURN_IF_ERROR(FlushChunk());
  std::vector<std::byte> footer(kSessionFooterBytes);
  std::memcpy(footer.data(), "PKVDONE\x1a", 8);
  StoreLittle(static_cast<uint32_t>(checksums_.size() - 1), &footer[8]);
  StoreLittle(payload_bytes_, &footer[16]);
  StoreLittle(FooterChecksum(checksums_, std::span(footer).first(24)),
              &footer[24]);
  PKV_RETURN_IF_ERROR(WriteAll(footer));
  if (calls_->Sync(fd_) != 0) return Failed("writing", errno);
  if (calls_->Rename(temporary_.c_str(), path_.c_str()) != 0) {
    return Failed("renaming to", errno);
  }
  temporary_.clear();
  const int directory =
      open(DirectoryOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return Failed("syncing the directory of", errno);
  // Some file systems cannot sync a directory, and need not.
  const int error = calls_->Sync(directory) == 0 ? 0 : errno;
  close(directory);
  if (error != 0 && error != EINVAL && error != ENOTSUP) {
    return Failed("syncing the directory of", error);
  }
  return {};
}

}  // namespace pyramidkv
