#include "base/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

namespace pyramidkv {
namespace {

using Kind = ChildOutcome::Kind;

// The child's message: one of these, the bytes of the text, the text.
constexpr char kOutputTag = 'o';
constexpr char kThrownTag = 't';
constexpr char kMemoryTag = 'm';
constexpr char kLongTag = 'l';
constexpr size_t kHeaderBytes = 1 + sizeof(uint64_t);

// Pages that the process has mapped, in bytes.
int64_t MappedBytes() {
  long long pages = 0;
  if (FILE* file = fopen("/proc/self/statm", "r")) {
    if (fscanf(file, "%lld", &pages) != 1) pages = 0;
    fclose(file);
  }
  return pages * sysconf(_SC_PAGESIZE);
}

void Limit(int resource, int64_t bytes) {
  rlimit limit;
  if (getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = std::min(limit.rlim_max, static_cast<rlim_t>(bytes));
  setrlimit(resource, &limit);
}

// Handlers, masks and streams of the host program end here.
void LeaveHost() {
  for (int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPROF}) {
    ::signal(signal, SIG_DFL);
  }
  for (int signal : {SIGINT, SIGPIPE}) ::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
}

void Apply(const ChildLimits& limits) {
  constexpr int64_t kStackBytes = int64_t{8} << 20;
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_STACK, kStackBytes);
  Limit(RLIMIT_AS, MappedBytes() + limits.memory_bytes);
  itimerval timer = {};
  timer.it_value.tv_sec = static_cast<time_t>(limits.cpu_seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>(
      (limits.cpu_seconds - double(timer.it_value.tv_sec)) * 1e6);
  setitimer(ITIMER_PROF, &timer, nullptr);
}

void WriteAll(int pipe, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = write(pipe, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes += written;
    count -= static_cast<size_t>(written);
  }
}

void Answer(int pipe, char tag, std::string_view text) {
  char header[kHeaderBytes] = {tag};
  const uint64_t bytes = text.size();
  memcpy(header + 1, &bytes, sizeof(bytes));
  WriteAll(pipe, header, sizeof(header));
  WriteAll(pipe, text.data(), text.size());
}

[[noreturn]] void Child(int pipe, const ChildLimits& limits,
                        const std::function<std::string()>& work) {
  LeaveHost();
  Apply(limits);
  try {
    const std::string text = work();
    const bool fits = static_cast<int64_t>(text.size()) <= limits.output_bytes;
    Answer(pipe, fits ? kOutputTag : kLongTag, fits ? text : "");
  } catch (const std::bad_alloc&) {
    Answer(pipe, kMemoryTag, "");
  } catch (const std::exception& error) {
    // Layers in between may have made text of it.
    const std::string_view text = error.what();
    const bool memory = text.find("std::bad_alloc") != text.npos;
    Answer(pipe, memory ? kMemoryTag : kThrownTag, memory ? "" : text);
  }
  _exit(0);
}

// All that comes until the pipe is closed or `seconds` are over.
std::string ReadUntilClosed(int pipe, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    const double left =
        std::chrono::duration<double>(end - Clock::now()).count();
    pollfd poll_for = {pipe, POLLIN, 0};
    const int ready = poll(&poll_for, 1, static_cast<int>(left * 1e3));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return bytes;
    const ssize_t count = read(pipe, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(count));
  }
}

ChildOutcome TimeLimit(const ChildLimits& limits) {
  return {Kind::kLimit,
          fmt::format("more than {} s of CPU time", limits.cpu_seconds)};
}

ChildOutcome MemoryLimit(const ChildLimits& limits) {
  return {Kind::kLimit,
          fmt::format("more than {} MiB of memory", limits.memory_bytes >> 20)};
}

ChildOutcome FromMessage(const std::string& message,
                         const ChildLimits& limits) {
  std::string text = message.substr(kHeaderBytes);
  switch (message[0]) {
    case kOutputTag:
      return {Kind::kOutput, std::move(text)};
    case kThrownTag:
      return {Kind::kThrown, std::move(text)};
    case kMemoryTag:
      return MemoryLimit(limits);
    default:
      return {Kind::kLimit, fmt::format("more than {} MiB of output",
                                        limits.output_bytes >> 20)};
  }
}

bool IsComplete(const std::string& message) {
  uint64_t bytes = 0;
  if (message.size() < kHeaderBytes) return false;
  memcpy(&bytes, message.data() + 1, sizeof(bytes));
  return message.size() - kHeaderBytes == bytes;
}

// How a child ended that said nothing. Who has its own handler for children may
// have taken the reason away.
ChildOutcome FromEnd(int status, const ChildLimits& limits) {
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (signal == SIGPROF || signal == SIGKILL) return TimeLimit(limits);
  if (signal == SIGABRT) return MemoryLimit(limits);
  return {Kind::kLimit, "more than 8 MiB of stack"};
}

}  // namespace

ChildOutcome RunInChild(const ChildLimits& limits,
                        const std::function<std::string()>& work) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {Kind::kNoChild, strerror(errno)};
  const pid_t child = fork();
  if (child < 0) {
    const int error = errno;
    close(ends[0]);
    close(ends[1]);
    return {Kind::kNoChild, strerror(error)};
  }
  if (child == 0) Child(ends[1], limits, work);
  close(ends[1]);
  // Time that it does not compute in is bounded, too.
  const std::string message =
      ReadUntilClosed(ends[0], 30 + 10 * limits.cpu_seconds);
  close(ends[0]);
  const bool complete = IsComplete(message);
  if (!complete) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return complete ? FromMessage(message, limits) : FromEnd(status, limits);
}

}  // namespace pyramidkv
