// Writing session files: SessionFileWriter.

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "fmt/format.h"
#include "runtime/little_endian.h"
#include "runtime/session_checksum.h"
#include "runtime/session_file.h"

namespace pyramidkv {
namespace {

constexpr char kTemporaryMark[] = ".tmp-";
constexpr int kMostTemporaries = 1000;  // of one process, at the same time
// A process id is used again one day; a writer needs the lock from its first
// moment on.
constexpr time_t kStaleSeconds = 60;

// Where the file really is: renaming over a symbolic link would replace it.
std::string ResolveLinks(const std::string& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}

std::string DirectoryOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

bool ProcessLives(pid_t pid) { return kill(pid, 0) == 0 || errno == EPERM; }

// `rest` of a temporary name behind its mark: "PID-N". 0: another file's.
pid_t ProcessOf(std::string_view rest) {
  int pid = 0, number = 0;
  const char* const end = rest.data() + rest.size();
  const auto first = std::from_chars(rest.data(), end, pid);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-') {
    return 0;
  }
  const auto second = std::from_chars(first.ptr + 1, end, number);
  return second.ec == std::errc() && second.ptr == end && pid > 0 ? pid : 0;
}

// A writer holds a lock, which ends with it.
void RemoveIfStale(const std::string& path, pid_t pid) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  struct stat info;
  const bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
  if (!held && fstat(fd, &info) == 0 &&
      (!ProcessLives(pid) || time(nullptr) - info.st_mtime > kStaleSeconds)) {
    unlink(path.c_str());
  }
  close(fd);
}

void RemoveStale(const std::string& path) {
  const std::string prefix =
      std::filesystem::path(path).filename().string() + kTemporaryMark;
  std::error_code error;
  std::filesystem::directory_iterator entry(DirectoryOf(path), error);
  for (; !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const pid_t pid = ProcessOf(std::string_view(name).substr(prefix.size()));
    if (pid != 0) RemoveIfStale(entry->path().string(), pid);
  }
}

}  // namespace

SessionFileWriter::SessionFileWriter(std::string path, const SessionFileId& id)
    : path_(std::move(path)), id_(id) {
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
    const std::string& path, const SessionFileId& id) {
  std::unique_ptr<SessionFileWriter> writer(
      new SessionFileWriter(ResolveLinks(path), id));
  PKV_RETURN_IF_ERROR(writer->OpenTemporary());
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

Status SessionFileWriter::OpenTemporary() {
  struct stat old;
  const bool exists = stat(path_.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    return Status::Usage(fmt::format(
        "cannot save the session: {} is not a regular file", path_));
  }
  RemoveStale(path_);
  for (int n = 0; n < kMostTemporaries && fd_ < 0; ++n) {
    std::string name =
        fmt::format("{}{}{}-{}", path_, kTemporaryMark, getpid(), n);
    fd_ = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ >= 0) {
      temporary_ = std::move(name);
    } else if (errno != EEXIST) {
      return Failed("writing beside", errno);
    }
  }
  if (fd_ < 0) return Failed("writing beside", EEXIST);
  // Where there are no locks, process ids have to do.
  [[maybe_unused]] const int locked = flock(fd_, LOCK_EX | LOCK_NB);
  if (exists && fchmod(fd_, old.st_mode & 07777) != 0) {
    return Failed("keeping the mode of", errno);
  }
  return {};
}

Status SessionFileWriter::WriteAll(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
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
  if (fsync(fd_) != 0) return Failed("writing", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return Failed("renaming to", errno);
  }
  temporary_.clear();
  const int directory =
      open(DirectoryOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return Failed("syncing the directory of", errno);
  // Some file systems cannot sync a directory, and need not.
  const int error = fsync(directory) == 0 ? 0 : errno;
  close(directory);
  if (error != 0 && error != EINVAL && error != ENOTSUP) {
    return Failed("syncing the directory of", error);
  }
  return {};
}

}  // namespace pyramidkv
