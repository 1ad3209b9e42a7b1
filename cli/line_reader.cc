#include "cli/line_reader.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <clocale>
#include <cstring>
#include <cwchar>
#include <iostream>
#include <string_view>

#include "cli/signals.h"

namespace pyramidkv::cli {
namespace {

constexpr int kHistoryLines = 1000;
constexpr int kPollMs = 200;
constexpr int kEscapePollMs = 20;  // until a key Escape is one
// Terminals put these around what is pasted, where they are asked to.
constexpr std::string_view kAskForMarks = "\x1b[?2004h";
constexpr std::string_view kNoMarks = "\x1b[?2004l";
constexpr std::string_view kPasteBegins = "\x1b[200~";
constexpr std::string_view kPasteEnds = "\x1b[201~";
// Shown for a newline in a paste, which would end the line: U+2424.
constexpr wchar_t kNewlineSign = 0x2424;
constexpr std::string_view kNewlineSignUtf8 = "\xE2\x90\xA4";

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
    pasted_ = pasting_ = false;
    std::cout << kAskForMarks << std::flush;
    int count = 0;
    const char* text = el_gets(edit_.get(), &count);
    std::cout << kNoMarks << std::flush;
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
    if (pasted_) RestoreNewlines(line);
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

  static void RestoreNewlines(std::string* line) {
    for (size_t at = 0;
         (at = line->find(kNewlineSignUtf8, at)) != line->npos;) {
      line->replace(at++, kNewlineSignUtf8.size(), "\n");
    }
  }

  enum class Input { kByte, kEnd, kSignal, kNothing };

  // The next byte; kNothing after `patience_ms`, if that is not negative.
  Input ReadByte(char* byte, int patience_ms) {
    while (true) {
      pollfd input = {STDIN_FILENO, POLLIN, 0};
      const int ready =
          poll(&input, 1, patience_ms < 0 ? kPollMs : patience_ms);
      if (StopRequested()) return Input::kSignal;
      if (ready <= 0 && patience_ms >= 0) return Input::kNothing;
      if (ready <= 0) continue;
      const ssize_t n = read(STDIN_FILENO, byte, 1);
      if (n == 0) return Input::kEnd;
      if (n == 1) return Input::kByte;
    }
  }

  // After an Escape: takes the mark of a paste, if it is one, or keeps what
  // came for later.
  bool TakesPasteMark() {
    std::string seen = "\x1b";
    char byte = 0;
    while (kPasteBegins.starts_with(seen) || kPasteEnds.starts_with(seen)) {
      if (seen == kPasteBegins || seen == kPasteEnds) {
        pasting_ = seen == kPasteBegins;
        pasted_ = pasted_ || pasting_;
        return true;
      }
      if (ReadByte(&byte, kEscapePollMs) != Input::kByte) break;
      seen += byte;
    }
    waiting_ = seen.substr(1);
    return false;
  }

  Input NextByte(char* byte) {
    if (!waiting_.empty()) {
      *byte = waiting_.front();
      waiting_.erase(0, 1);
      return Input::kByte;
    }
    const Input input = ReadByte(byte, -1);
    if (input != Input::kByte || *byte != '\x1b') return input;
    return TakesPasteMark() ? NextByte(byte) : input;
  }

  // One character of a UTF-8 stream; 0 at the end, -1 once a signal came.
  static int GetChar(EditLine* edit, wchar_t* out) {
    Editor* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    std::mbstate_t state = {};
    while (true) {
      char byte = 0;
      const Input input = self->NextByte(&byte);
      if (input == Input::kSignal) return -1;
      if (input == Input::kEnd) return 0;
      const bool newline = byte == '\n' || byte == '\r';
      const bool second = byte == '\n' && self->last_ == '\r';
      self->last_ = byte;
      if (self->pasting_ && newline) {
        if (second) continue;
        *out = kNewlineSign;
        return 1;
      }
      const size_t done = std::mbrtowc(out, &byte, 1, &state);
      if (done == static_cast<size_t>(-1)) state = {};  // not UTF-8: dropped
      if (done <= 1) return 1;
    }
  }

  const char* const prompt_;
  std::unique_ptr<History, Deleter> history_;
  std::unique_ptr<EditLine, Deleter> edit_;
  std::string waiting_;  // bytes that were read ahead
  char last_ = 0;
  bool pasting_ = false;
  bool pasted_ = false;  // in this line
};

}  // namespace

std::unique_ptr<LineReader> MakeLineReader(const char* prompt) {
  if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) {
    return std::make_unique<Editor>(prompt);
  }
  return std::make_unique<PipeReader>();
}

}  // namespace pyramidkv::cli
