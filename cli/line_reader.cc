#include "cli/line_reader.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <clocale>
#include <cstring>
#include <cwchar>
#include <iostream>

#include "cli/signals.h"

namespace pyramidkv::cli {
namespace {

constexpr int kHistoryLines = 1000;
constexpr int kPollMs = 200;

class PipeReader final : public LineReader {
 public:
  LineEvent Next(std::string* line) override {
    return std::getline(std::cin, *line) ? LineEvent::kLine : LineEvent::kEnd;
  }
  bool interactive() const override { return false; }
};

// Editing understands UTF-8 whatever the user's locale.
void UseUtf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
}

class Editor final : public LineReader {
 public:
  explicit Editor(const char* prompt) : prompt_(prompt) {
    UseUtf8();
    edit_.reset(el_init("pyramidkv", stdin, stdout, stderr));
    history_.reset(history_init());
    HistEvent event;
    history(history_.get(), &event, H_SETSIZE, kHistoryLines);
    el_set(edit_.get(), EL_CLIENTDATA, this);
    el_set(edit_.get(), EL_PROMPT, &Editor::Prompt);
    el_set(edit_.get(), EL_EDITOR, "emacs");
    el_set(edit_.get(), EL_SIGNAL, 0);  // cli/signals.h has the handlers
    el_set(edit_.get(), EL_HIST, history, history_.get());
    el_set(edit_.get(), EL_GETCFN, &Editor::GetChar);
  }

  LineEvent Next(std::string* line) override {
    const InterruptScope scope;
    int count = 0;
    const char* text = el_gets(edit_.get(), &count);
    if (StopRequested()) {
      std::cout << std::endl;
      return LineEvent::kInterrupt;
    }
    if (text == nullptr || count <= 0) {
      std::cout << std::endl;
      return LineEvent::kEnd;
    }
    line->assign(text, static_cast<size_t>(count));
    if (line->ends_with('\n')) line->pop_back();
    HistEvent event;
    if (!line->empty()) history(history_.get(), &event, H_ENTER, line->c_str());
    return LineEvent::kLine;
  }
  bool interactive() const override { return true; }

 private:
  struct Deleter {
    void operator()(EditLine* edit) const { el_end(edit); }
    void operator()(History* history) const { history_end(history); }
  };

  static char* Prompt(EditLine* edit) {
    Editor* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return const_cast<char*>(self->prompt_);
  }

  // One character of a UTF-8 stream; 0 at the end, -1 once a signal came.
  static int GetChar(EditLine*, wchar_t* out) {
    std::mbstate_t state = {};
    while (true) {
      pollfd input = {STDIN_FILENO, POLLIN, 0};
      const int ready = poll(&input, 1, kPollMs);
      if (StopRequested()) return -1;
      if (ready <= 0) continue;
      char byte = 0;
      const ssize_t n = read(STDIN_FILENO, &byte, 1);
      if (n == 0) return 0;
      if (n < 0) continue;
      const size_t done = std::mbrtowc(out, &byte, 1, &state);
      if (done == static_cast<size_t>(-1)) state = {};  // not UTF-8: dropped
      if (done <= 1) return 1;
    }
  }

  const char* const prompt_;
  std::unique_ptr<History, Deleter> history_;
  std::unique_ptr<EditLine, Deleter> edit_;
};

}  // namespace

std::unique_ptr<LineReader> MakeLineReader(const char* prompt) {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) {
    return std::make_unique<Editor>(prompt);
  }
  return std::make_unique<PipeReader>();
}

}  // namespace pyramidkv::cli
