// Writes that are checked: results on stdout and in files. Nothing that was
// asked for is lost without an error.

#ifndef PYRAMIDKV_CLI_OUTPUT_H_
#define PYRAMIDKV_CLI_OUTPUT_H_

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The exit code for `status`. The only place where one becomes the other.
int ExitCode(const Status& status);

// Makes descriptors 0 to 2 safe: one that is closed is taken, so that no file
// of ours is opened in its place, and writes to a closed stdout still fail.
void PrepareStandardStreams();

// Writes all of `text` to stdout at once, unbuffered.
Status WriteStdout(std::string_view text);

// Log lines: "pyramidkv: message" on stderr.
void LogLine(std::string_view message);

// A file that results go to. Errors name the file; all are kRuntime.
class OutputFile {
 public:
  // Creates or empties `path`.
  static Result<OutputFile> Open(const std::string& path);
  // Keeps the first `bytes` of `path`, and writes behind them.
  static Result<OutputFile> Continue(const std::string& path, size_t bytes);

  // False once a write has failed; status() says why.
  bool Write(std::string_view bytes);
  bool WriteFloats(std::span<const float> values);  // f32 little-endian
  bool Flush();
  const Status& status() const { return status_; }

  // Flushes, closes and returns the first error. Call it exactly once.
  Status Close();

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  OutputFile(std::string path, std::FILE* file)
      : path_(std::move(path)), file_(file) {}
  void Fail(int error);

  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
  Status status_;
};

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_OUTPUT_H_
