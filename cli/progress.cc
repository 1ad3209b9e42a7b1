#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cli/signals.h"
#include "cli/text_format.h"

namespace pyramidkv::cli {
namespace {

constexpr int kBar = 30, kLeastBar = 5;
constexpr int kUsualWidth = 80;
constexpr std::chrono::milliseconds kInterval{100};
// Before that a guess of the time that is left is worth nothing.
constexpr double kLeastSeconds = 1, kLeastShare = 0.01;

bool ColourWanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

void WriteStderr(const std::string& text) {
  [[maybe_unused]] const ssize_t ignored =
      write(STDERR_FILENO, text.data(), text.size());
}

int TerminalWidth() {
  winsize size;
  const bool told = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;
  return told && size.ws_col > 0 ? size.ws_col : kUsualWidth;
}

// "412/2000", right-aligned so that nothing moves.
std::string Count(const ProgressState& state) {
  const auto done = static_cast<int64_t>(
      std::floor(state.share * static_cast<double>(state.count) + 1e-6));
  const std::string all = fmt::format("{}", state.count);
  return fmt::format("{:>{}}/{}", done, all.size(), all);
}

std::string Apart(const std::string& text) {
  return text.empty() ? "" : " " + text;
}

}  // namespace

bool StderrIsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && term != nullptr &&
         std::string_view(term) != "dumb";
}

std::string Duration(double seconds) {
  const auto s = static_cast<int64_t>(
      std::ceil(std::clamp(seconds, 0.0, 359999.0)));  // 99:59:59
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string ProgressLine(const ProgressState& state, int width) {
  const int room = std::max(width - 1, 0);  // the last column wraps
  const std::string percent = fmt::format("{:3.0f} %", 100 * state.share);
  const std::string count = state.count > 0 ? " " + Count(state) : "";
  const std::string unit =
      state.count > 0 && !state.unit.empty() ? " " + state.unit : "";
  const std::string left =
      state.seconds_left
          ? fmt::format(" {} left", Duration(*state.seconds_left))
          : "";
  // From all to the least; the first one that fits is taken.
  const std::pair<std::string, bool> tails[] = {
      {percent + Apart(count) + unit + Apart(left), true},
      {percent + count + left, true},
      {percent + count + left, false},
      {percent + count, false},
      {percent, false}};
  for (const auto& [tail, bar] : tails) {
    const int used = static_cast<int>(state.label.size() + 1 + tail.size());
    const int space = bar ? std::min(kBar, room - used - 1) : 0;
    if (used > room || (bar && space < kLeastBar)) continue;
    return bar ? fmt::format("{} {} {}", state.label, Bar(state.share, space),
                             tail)
               : fmt::format("{} {}", state.label, tail);
  }
  return percent.substr(0, room);
}

ProgressBar::ProgressBar(std::string label, int64_t count, std::string unit)
    : state_{std::move(label), 0, count, std::move(unit), std::nullopt},
      enabled_(StderrIsTerminal()),
      colour_(enabled_ && ColourWanted()),
      start_(Clock::now()),
      last_(start_) {}

void ProgressBar::Update(int64_t done, int64_t total) {
  if (!enabled_ || total <= 0) return;
  state_.share = std::clamp(
      static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  if (!first_share_) first_share_ = done < total ? state_.share : 0;
  const auto now = Clock::now();
  if (now - last_ < kInterval) return;  // nor for work that is over at once
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double share = state_.share - *first_share_;
  state_.seconds_left.reset();
  if (seconds >= kLeastSeconds && share >= kLeastShare) {
    state_.seconds_left = seconds * (1 - state_.share) / share;
  }
  std::string line = ProgressLine(state_, TerminalWidth());
  const size_t bar = line.find_first_of("#.");
  const size_t end = line.find_first_not_of("#.", bar);
  if (colour_ && bar != line.npos && end != line.npos && end > bar + 2) {
    line.insert(end, "\033[0m");
    line.insert(bar, "\033[36m");
  }
  WriteStderr("\r" + line + "\033[K");
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
