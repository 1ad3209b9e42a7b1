#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/signals.h"
#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

constexpr int kWidth = 30;
constexpr std::chrono::milliseconds kInterval{100};

bool ColourWanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

void WriteStderr(const std::string& text) {
  [[maybe_unused]] const ssize_t ignored =
      write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

bool StderrIsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && term != nullptr &&
         std::string_view(term) != "dumb";
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      enabled_(StderrIsTerminal()),
      colour_(enabled_ && ColourWanted()),
      last_(std::chrono::steady_clock::now()) {}

void ProgressBar::Update(int64_t done, int64_t total) {
  if (!enabled_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < kInterval) return;  // nor for work that is over at once
  last_ = now;
  drawn_ = true;
  const double share = static_cast<double>(done) / static_cast<double>(total);
  WriteStderr(fmt::format("\r{} {}{}{} {:3.0f} %", label_,
                          colour_ ? "\033[36m" : "", Bar(share, kWidth),
                          colour_ ? "\033[0m" : "", 100 * share));
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  drawn_ = false;
  WriteStderr("\r\033[K");
}

Progress ProgressBar::Callback() {
  return [this](int64_t done, int64_t total) {
    Update(done, total);
    return !StopRequested();
  };
}

}  // namespace pyramidkv::cli
