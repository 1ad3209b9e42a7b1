#include "cli/subprocess.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <omp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "cli/signals.h"

namespace pyramidkv::cli {
namespace {

constexpr int kPollMs = 100;
constexpr std::string_view kLogPrefix = "pyramidkv: ";

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  bool Open() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return false;
    read_end = fds[0];
    write_end = fds[1];
    return true;
  }
};

// The processors that the child may use: ours. Where the environment makes
// OpenMP bind threads, the main thread has one of its places alone by now.
cpu_set_t ChildMask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof(mask), &mask);
  for (int place = 0; place < omp_get_num_places(); ++place) {
    std::vector<int> processors(omp_get_place_num_procs(place));
    omp_get_place_proc_ids(place, processors.data());
    for (const int processor : processors) CPU_SET(processor, &mask);
  }
  return mask;
}

// In the child: becomes `pyramidkv args...`. Async-signal-safe.
[[noreturn]] void Exec(char* const* argv, const cpu_set_t& mask,
                       const Pipe& out, const Pipe& log) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sched_setaffinity(0, sizeof(mask), &mask);
  dup2(out.write_end, STDOUT_FILENO);
  dup2(log.write_end, STDERR_FILENO);
  execv("/proc/self/exe", argv);
  _exit(127);
}

// Collects both streams until the child has closed them.
void Collect(pid_t child, int out, int log, std::string* out_text,
             std::string* log_text) {
  pollfd inputs[2] = {{out, POLLIN, 0}, {log, POLLIN, 0}};
  std::string* texts[2] = {out_text, log_text};
  bool told = false;
  while (inputs[0].fd >= 0 || inputs[1].fd >= 0) {
    const int ready = poll(inputs, 2, kPollMs);
    if (StopRequested() && !told) {
      kill(child, LastSignal() == 0 ? SIGTERM : LastSignal());
      told = true;
    }
    for (int i = 0; ready > 0 && i < 2; ++i) {
      if (inputs[i].fd < 0 || inputs[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = read(inputs[i].fd, buffer, sizeof(buffer));
      if (n > 0) texts[i]->append(buffer, static_cast<size_t>(n));
      if (n == 0 || (n < 0 && errno != EINTR)) inputs[i].fd = -1;
    }
  }
}

std::string LastLogLine(std::string_view log) {
  while (log.ends_with('\n')) log.remove_suffix(1);
  log = log.substr(log.rfind('\n') + 1);  // npos + 1 is 0
  if (log.starts_with(kLogPrefix)) log.remove_prefix(kLogPrefix.size());
  return std::string(log);
}

Status ChildStatus(int wait_status, const std::string& log) {
  if (StopRequested()) return Status::Cancelled();
  if (WIFSIGNALED(wait_status)) {
    return Status::Runtime(fmt::format("a measurement was ended by signal {}",
                                       WTERMSIG(wait_status)));
  }
  const int code = WEXITSTATUS(wait_status);
  if (code == 0) return {};
  // Codes that are not ours (127, or a sanitizer's) are failures at run time.
  const bool ours = code <= static_cast<int>(StatusCode::kDoesNotFit) ||
                    code == static_cast<int>(StatusCode::kCancelled);
  return {ours ? static_cast<StatusCode>(code) : StatusCode::kRuntime,
          LastLogLine(log)};
}

}  // namespace

Result<std::string> RunSelf(const std::vector<std::string>& args) {
  std::vector<std::string> words = {"pyramidkv"};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  Pipe out, log;
  if (!out.Open() || !log.Open()) {
    return Status::Runtime(fmt::format("pipe: {}", strerror(errno)));
  }
  const InterruptScope scope;
  const cpu_set_t mask = ChildMask();
  const pid_t child = fork();
  if (child == 0) Exec(argv.data(), mask, out, log);
  close(out.write_end);
  close(log.write_end);
  std::string out_text, log_text;
  if (child > 0)
    Collect(child, out.read_end, log.read_end, &out_text, &log_text);
  close(out.read_end);
  close(log.read_end);
  if (child < 0) {
    return Status::Runtime(fmt::format("fork: {}", strerror(errno)));
  }
  int wait_status = 0;
  while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR) {
  }
  PKV_RETURN_IF_ERROR(ChildStatus(wait_status, log_text));
  std::fputs(log_text.c_str(), stderr);
  return out_text;
}

}  // namespace pyramidkv::cli
