// The kept positions that a session reports, read back from its trace.

#ifndef PYRAMIDKV_RUNTIME_TESTING_KEPT_TRACE_H_
#define PYRAMIDKV_RUNTIME_TESTING_KEPT_TRACE_H_

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyramidkv/engine.h"

namespace pyramidkv {

// By (layer, head): the positions after the last compaction of that head.
using KeptPositions = std::map<std::pair<int, int>, std::vector<int>>;

inline int NumberAfter(std::string_view line, std::string_view key) {
  const size_t at = line.find(key);
  return at == line.npos ? -1 : std::atoi(line.data() + at + key.size());
}

inline void AddTraceLine(std::string_view line, KeptPositions* kept) {
  std::vector<int> positions;
  size_t at = line.find('[') + 1;
  while (at < line.size() && line[at] != ']') {
    char* end = nullptr;
    positions.push_back(
        static_cast<int>(std::strtol(line.data() + at, &end, 10)));
    at = end - line.data() + (*end == ',' ? 1 : 0);
  }
  (*kept)[{NumberAfter(line, "\"layer\":"), NumberAfter(line, "\"head\":")}] =
      std::move(positions);
}

inline void TraceInto(Session* session, KeptPositions* kept) {
  session->SetTrace(
      [kept](std::string_view line) { AddTraceLine(line, kept); });
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_TESTING_KEPT_TRACE_H_
