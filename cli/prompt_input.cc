#include "cli/prompt_input.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cli/conversation.h"
#include "cli/document.h"
#include "cli/inputs.h"
#include "cli/output.h"

namespace pyramidkv::cli {
namespace {

constexpr int kMsUntilNotice = 1000;
constexpr int kMsUntilUseless = 10000;

bool TerminalTypes() { return isatty(STDIN_FILENO) == 1; }

// Whether a pipe says or ends anything. Programs that start others often leave
// them a pipe of their own, in which nothing ever comes.
bool PipeSpeaks() {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  if (poll(&input, 1, kMsUntilNotice) > 0) return true;
  LogLine(
      "waiting for a document on standard input (< /dev/null: there is "
      "none)");
  if (poll(&input, 1, kMsUntilUseless - kMsUntilNotice) > 0) return true;
  LogLine("warning: nothing came on standard input; -f - waits for it");
  return false;
}

// Files count from their start alone: a loop of a shell that reads its lines
// from one leaves it half read.
bool StdinHasDocument() {
  struct stat info;
  if (fstat(STDIN_FILENO, &info) != 0) return false;
  if (S_ISREG(info.st_mode)) {
    return info.st_size > 0 && lseek(STDIN_FILENO, 0, SEEK_CUR) == 0;
  }
  return (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) && PipeSpeaks();
}

Status CheckStdin(const PromptFlags& flags) {
  const auto dashes = std::count(flags.files.begin(), flags.files.end(), "-");
  if (dashes > 1) {
    return Status::Usage("-f - is given twice: standard input is read once");
  }
  if (dashes == 1 && TerminalTypes()) {
    LogLine("reading standard input; Ctrl-D ends it");
  }
  return {};
}

Result<std::vector<std::string>> Documents(const PromptFlags& flags) {
  PKV_RETURN_IF_ERROR(CheckStdin(flags));
  std::vector<std::string> names = flags.files;
  const bool asked = flags.question.has_value();
  if (names.empty() &&
      (asked ? flags.takes_stdin && StdinHasDocument() : !TerminalTypes())) {
    names.push_back("-");
  }
  std::vector<std::string> documents;
  for (const std::string& name : names) {
    PKV_ASSIGN_OR_RETURN(std::string text, ReadDocument(name, flags.verbatim));
    if (!text.empty()) {
      documents.push_back(std::move(text));
    } else if (!flags.files.empty()) {
      return Status::Usage((name == "-" ? "standard input" : name) +
                           " is empty: there is no document in it");
    }
  }
  return documents;
}

}  // namespace

Result<std::string> PromptText(const PromptFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> documents,
                       Documents(flags));
  return WithDocuments(documents, flags.question.value_or(""));
}

}  // namespace pyramidkv::cli
