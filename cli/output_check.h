// The one check of all files that a command writes, before any work: nothing of
// anybody else's is overwritten, and no work is done for a file that cannot be
// written.

#ifndef PYRAMIDKV_CLI_OUTPUT_CHECK_H_
#define PYRAMIDKV_CLI_OUTPUT_CHECK_H_

#include <span>
#include <string>
#include <string_view>

#include "CLI/CLI.hpp"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// kSession: Session::Save. kLines: JSON lines of --kv-trace. kStudy: JSON lines
// of `eval --out`. kLogits: rows of f32.
enum class OutputKind { kSession, kLines, kStudy, kLogits };

struct PlannedOutput {
  std::string flag;  // for messages: "--logits"
  std::string path;  // empty: not given
  OutputKind kind = OutputKind::kLines;
  bool goes_on = false;  // what is there stays
};

struct PlannedInput {
  std::string flag;
  std::string path;         // empty, "-": none
  bool is_session = false;  // a session may be stored in its own place
};

// The model that the flag -m stands for (ResolveModelPath).
PlannedInput ModelInput(const std::string& flag);

// Errors: kUsage for a directory, a name that is too long, an input or another
// output of the same command, and an existing file that is neither empty nor of
// the same kind, unless `force`; kRuntime where no file can be made. New files,
// FIFOs and devices pass, but for sessions, which are regular files.
Status CheckOutputs(std::span<const PlannedOutput> outputs,
                    std::span<const PlannedInput> inputs, bool force);

// Whether these first bytes of a file of `size` bytes are of such a file.
bool LooksLike(OutputKind kind, std::string_view head, uint64_t size);

// --force
CLI::Option* AddForce(CLI::App* app, bool* force);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_OUTPUT_CHECK_H_
