#include "text/stream.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace pyramidkv {

TextStream::TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {
  std::erase_if(stop_, [](const std::string& s) { return s.empty(); });
}

std::string TextStream::Push(std::string_view piece) {
  if (stopped_) return {};
  pending_ += piece;
  // {end, start} of the match that is complete first; of those that end
  // together the longest.
  constexpr size_t kNone = std::string::npos;
  std::pair<size_t, size_t> match{kNone, kNone};
  for (const std::string& stop : stop_) {
    const size_t start = pending_.find(stop);
    if (start == kNone) continue;
    match = std::min(match, {start + stop.size(), start});
  }
  if (match.first != kNone) {
    std::string out = Emit(match.second);
    stopped_ = true;
    pending_.clear();
    return out;
  }
  size_t certain = pending_.size() - HeldForStop();
  certain -= IncompleteSuffix(std::string_view(pending_).substr(0, certain));
  return Emit(certain);
}

std::string TextStream::Finish() { return Emit(pending_.size()); }

std::string TextStream::Emit(size_t bytes) {
  std::string out =
      ReplaceInvalidUtf8(std::string_view(pending_).substr(0, bytes));
  pending_.erase(0, bytes);
  text_ += out;
  return out;
}

size_t TextStream::HeldForStop() const {
  size_t held = 0;
  for (const std::string& stop : stop_) {
    size_t length = std::min(stop.size() - 1, pending_.size());
    for (; length > held; --length) {
      if (pending_.ends_with(std::string_view(stop).substr(0, length))) break;
    }
    held = std::max(held, length);
  }
  return held;
}

}  // namespace pyramidkv
