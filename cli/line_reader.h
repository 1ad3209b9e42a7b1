// Lines of input: edited with a history where a person types them, plain
// where stdin is a pipe or a file.

#ifndef PYRAMIDKV_CLI_LINE_READER_H_
#define PYRAMIDKV_CLI_LINE_READER_H_

#include <memory>
#include <string>

namespace pyramidkv::cli {

enum class LineEvent { kLine, kInterrupt, kEnd };

class LineReader {
 public:
  virtual ~LineReader() = default;
  // kLine: `line` is the next one, without its newline. kInterrupt: Ctrl-C
  // (or SIGTERM) came while it was typed.
  virtual LineEvent Next(std::string* line) = 0;
  virtual bool interactive() const = 0;
};

// An editor with `prompt` if stdin and stdout are a terminal.
std::unique_ptr<LineReader> MakeLineReader(const char* prompt);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_LINE_READER_H_
