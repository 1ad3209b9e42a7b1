// SIGINT and SIGTERM. Outside of an InterruptScope the first signal ends the
// process with exit code 128 + signal; inside, the first one sets a flag that
// the work looks at, and the second one ends the process.
//
// There is one set of handlers per process, so this state is global.

#ifndef PYRAMIDKV_CLI_SIGNALS_H_
#define PYRAMIDKV_CLI_SIGNALS_H_

#include <atomic>

namespace pyramidkv::cli {

// Installs the handlers and ignores SIGPIPE and SIGXFSZ: writes report EPIPE
// and EFBIG instead.
void InstallSignalHandlers();

// True once the work in hand should stop; for GenerateOptions::cancel.
const std::atomic<bool>* StopFlag();
bool StopRequested();
// Asks the work in hand to stop for a reason of our own (a failed write).
void RequestStop();
// Forgets a SIGINT so that the next piece of work can run. SIGTERM stays.
void ForgetInterrupt();

// The last SIGINT or SIGTERM that arrived, or 0.
int LastSignal();

class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_SIGNALS_H_
