#include "model/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace pyramidkv {
namespace {

Status SystemError(const std::string& path, const char* what, int error) {
  return Status::Model(fmt::format("{}: {}: {}", path, what,
                                   std::generic_category().message(error)));
}

// Closes the descriptor; a mapping outlives it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Result<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: a named pipe must be refused below, not waited for.
  Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    if (errno == ENOENT) {
      return Status::Model(fmt::format("{}: no such file", path));
    }
    return SystemError(path, "cannot be read", errno);
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) {
    return SystemError(path, "cannot be read", errno);
  }
  if (S_ISDIR(info.st_mode)) {
    return Status::Model(
        fmt::format("{}: is a directory, not a GGUF file", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return Status::Model(fmt::format("{}: is not a regular file", path));
  }
  if (info.st_size == 0) {
    return Status::Model(fmt::format("{}: is empty, not a GGUF file", path));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return SystemError(path, "cannot be mapped", errno);
  return std::unique_ptr<MappedFile>(
      new MappedFile({static_cast<const std::byte*>(data), size}));
}

void MappedFile::DropPages() const {
  madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace pyramidkv
