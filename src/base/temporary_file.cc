#include "base/temporary_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace pyramidkv {
namespace {

constexpr char kMark[] = ".tmp-";
constexpr int kMostTemporaries = 1000;  // of one process, at the same time
// A process id is used again one day; a writer needs the lock from its first
// moment on.
constexpr time_t kStaleSeconds = 60;

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

}  // namespace

void RemoveStaleTemporaries(const std::string& path) {
  const std::string prefix =
      std::filesystem::path(path).filename().string() + kMark;
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

int OpenTemporary(const std::string& path, mode_t mode, std::string* name) {
  const std::string prefix = path + kMark + std::to_string(getpid()) + "-";
  for (int n = 0; n < kMostTemporaries; ++n) {
    *name = prefix + std::to_string(n);
    const int fd =
        open(name->c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST) continue;
    // Where there are no locks, process ids have to do.
    if (fd >= 0) {
      [[maybe_unused]] const int locked = flock(fd, LOCK_EX | LOCK_NB);
    }
    return fd;
  }
  errno = EEXIST;
  return -1;
}

std::string DirectoryOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace pyramidkv
