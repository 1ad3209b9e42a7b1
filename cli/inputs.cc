#include "cli/inputs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace pyramidkv::cli {
namespace {

Result<std::string> ReadAll(int fd, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n == 0) return text;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EISDIR) {
      return Status::Usage(fmt::format("{} is a directory, not a file", name));
    }
    if (n < 0) {
      return Status::Runtime(
          fmt::format("cannot read {}: {}", name, strerror(errno)));
    }
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

Result<std::string> ReadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return Status::Usage(
        fmt::format("cannot open {}: {}", path, strerror(errno)));
  }
  Result<std::string> text = ReadAll(fd, path);
  close(fd);
  return text;
}

Result<std::string> ReadStdin() {
  return ReadAll(STDIN_FILENO, "standard input");
}

std::string DropTrailingNewline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Result<std::vector<int>> ParseIdList(std::string_view text,
                                     std::string_view source) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  const size_t last = text.find_last_not_of(kSpace);
  if (first == std::string_view::npos) return std::vector<int>{};
  text = text.substr(first, last - first + 1);
  const bool json = text.front() == '[';
  if (json != (text.back() == ']') || (json && text.size() < 2)) {
    return Status::Usage(
        fmt::format("{}: the list of token ids is not closed", source));
  }
  if (json) text = text.substr(1, text.size() - 2);
  std::vector<int> ids;
  constexpr std::string_view kSeparators = " \t\r\n,";
  for (size_t at = 0;
       (at = text.find_first_not_of(kSeparators, at)) != text.npos;) {
    const size_t end =
        std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    int id = 0;
    const auto [rest, error] =
        std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || rest != word.data() + word.size()) {
      return Status::Usage(fmt::format("{}: \"{}\" is not a token id", source,
                                       word.substr(0, 40)));
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

Result<std::vector<int>> ReadIdFile(const std::string& path) {
  PKV_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseIdList(text, path);
}

Status CheckIds(std::span<const int> ids, int vocabulary,
                std::string_view source) {
  for (const int id : ids) {
    if (id >= 0 && id < vocabulary) continue;
    return Status::Usage(
        fmt::format("{}: token id {} is not in the model's vocabulary (0 to "
                    "{})",
                    source, id, vocabulary - 1));
  }
  return {};
}

}  // namespace pyramidkv::cli
