// A progress bar on stderr, drawn only where stderr is a terminal.

#ifndef PYRAMIDKV_CLI_PROGRESS_H_
#define PYRAMIDKV_CLI_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "pyramidkv/engine.h"

namespace pyramidkv::cli {

// True if stderr is a terminal that can redraw a line.
bool StderrIsTerminal();

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(int64_t done, int64_t total);
  void Clear();

  // For Session::Read: draws, and stops when the user asked to stop.
  // REQUIRES: the bar outlives the callback.
  Progress Callback();

 private:
  const std::string label_;
  const bool enabled_;
  const bool colour_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_PROGRESS_H_
