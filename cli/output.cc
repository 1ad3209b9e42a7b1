#include "cli/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "cli/signals.h"

namespace pyramidkv::cli {
namespace {

// Writes everything or returns errno.
int WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

Status CannotWrite(const std::string& path, int error) {
  return Status::Runtime(
      fmt::format("cannot write {}: {}", path, strerror(error)));
}

}  // namespace

int ExitCode(const Status& status) {
  if (status.code() == StatusCode::kCancelled && LastSignal() == SIGTERM) {
    return 128 + SIGTERM;
  }
  return static_cast<int>(status.code());
}

void PrepareStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // open() takes the lowest free descriptor: fd. stdout is opened for
    // reading so that a write to it fails as it would have.
    if (open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) < 0)
      return;
  }
}

Status WriteStdout(std::string_view text) {
  const int error = WriteAll(STDOUT_FILENO, text);
  if (error == 0) return {};
  return Status::Runtime(
      fmt::format("cannot write to standard output: {}", strerror(error)));
}

void LogLine(std::string_view message) {
  // Nothing can be done about a closed stderr.
  [[maybe_unused]] const int ignored =
      WriteAll(STDERR_FILENO, fmt::format("pyramidkv: {}\n", message));
}

Result<OutputFile> OutputFile::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return CannotWrite(path, errno);
  return OutputFile(path, file);
}

Result<OutputFile> OutputFile::Continue(const std::string& path, size_t bytes) {
  std::FILE* file = std::fopen(path.c_str(), "abe");
  if (file == nullptr) return CannotWrite(path, errno);
  OutputFile output(path, file);
  if (ftruncate(fileno(file), static_cast<off_t>(bytes)) != 0) {
    return CannotWrite(path, errno);
  }
  return output;
}

void OutputFile::Fail(int error) {
  if (status_.ok()) status_ = CannotWrite(path_, error);
}

bool OutputFile::Write(std::string_view bytes) {
  if (status_.ok() &&
      std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
    Fail(errno);
  }
  return status_.ok();
}

bool OutputFile::WriteFloats(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  return Write(
      {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

bool OutputFile::Flush() {
  if (status_.ok() && std::fflush(file_.get()) != 0) Fail(errno);
  return status_.ok();
}

Status OutputFile::Close() {
  if (std::fflush(file_.get()) != 0) Fail(errno);
  if (std::fclose(file_.release()) != 0) Fail(errno);
  return status_;
}

}  // namespace pyramidkv::cli
