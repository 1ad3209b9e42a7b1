#include "cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <string_view>

namespace pyramidkv::cli {
namespace {

// All lock-free, as a handler needs.
std::atomic<bool> g_stop{false};
std::atomic<int> g_signal{0};
std::atomic<int> g_scopes{0};

void OnSignal(int signal) {
  if (g_scopes.load() > 0 && g_signal.load() == 0) {
    g_signal.store(signal);
    g_stop.store(true);
    return;
  }
  constexpr std::string_view kMessage = "\npyramidkv: cancelled\n";
  [[maybe_unused]] const ssize_t ignored =
      write(STDERR_FILENO, kMessage.data(), kMessage.size());
  _exit(128 + signal);
}

}  // namespace

void InstallSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

const std::atomic<bool>* StopFlag() { return &g_stop; }
bool StopRequested() { return g_stop.load(); }
void RequestStop() { g_stop.store(true); }

void ForgetInterrupt() {
  if (g_signal.load() == SIGTERM) return;
  g_signal.store(0);
  g_stop.store(false);
}

int LastSignal() { return g_signal.load(); }

InterruptScope::InterruptScope() { ++g_scopes; }
InterruptScope::~InterruptScope() { --g_scopes; }

}  // namespace pyramidkv::cli
