// A progress bar on stderr, drawn only where stderr is a terminal.

#ifndef PYRAMIDKV_CLI_PROGRESS_H_
#define PYRAMIDKV_CLI_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "pyramidkv/engine.h"

namespace pyramidkv::cli {

// True if stderr is a terminal that can redraw a line.
bool StderrIsTerminal();

struct ProgressState {
  std::string label;
  double share = 0;   // done, in [0, 1]
  int64_t count = 0;  // things in all; 0: nothing to count
  std::string unit;   // of the things: "tokens"
  std::optional<double> seconds_left;
};

// The line, shorter than `width` columns: what does not fit is left out, the
// bar's length first, then the unit, the bar, the time.
std::string ProgressLine(const ProgressState& state, int width);

// "8 s", "2:05", "1:02:05"
std::string Duration(double seconds);

class ProgressBar {
 public:
  // count, unit: see ProgressState.
  explicit ProgressBar(std::string label, int64_t count = 0,
                       std::string unit = "");
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(int64_t done, int64_t total);
  void Clear();

  // For Session::Read: draws, and stops when the user asked to stop.
  // REQUIRES: the bar outlives the callback.
  Progress Callback();

 private:
  using Clock = std::chrono::steady_clock;

  ProgressState state_;
  const bool enabled_;
  const bool colour_;
  bool drawn_ = false;
  const Clock::time_point start_;
  std::optional<double> first_share_;  // that was done by others before
  Clock::time_point last_;
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_PROGRESS_H_
