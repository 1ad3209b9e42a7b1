#include "cli/output_check.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "cli/models.h"
#include "cli/options.h"

namespace pyramidkv::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHeadBytes = 4096;
// ".tmp-PID-N", which a session's file is called while it is written.
constexpr size_t kTemporarySuffix = 24;

const char* NameOf(OutputKind kind) {
  switch (kind) {
    case OutputKind::kSession:
      return "stored session";
    case OutputKind::kLines:
      return "file of --kv-trace";
    case OutputKind::kStudy:
      return "file of eval --out";
    case OutputKind::kLogits:
      return "file of --logits";
  }
  return "";
}

Status Refuse(const PlannedOutput& output, std::string_view why) {
  return Status::Usage(fmt::format("{} {}: {}", output.flag, output.path, why));
}

Status CannotWrite(const PlannedOutput& output, const std::string& path,
                   int error) {
  return Status::Runtime(fmt::format("{} {}: cannot write {}: {}", output.flag,
                                     output.path, path, strerror(error)));
}

// The same file, whatever its names; for files that are not there yet, the
// same name.
bool SameFile(const std::string& a, const std::string& b) {
  struct stat of_a, of_b;
  if (stat(a.c_str(), &of_a) == 0 && stat(b.c_str(), &of_b) == 0) {
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
  }
  std::error_code ignored;
  return fs::weakly_canonical(a, ignored) == fs::weakly_canonical(b, ignored);
}

bool IsRegular(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

std::string HeadOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(kHeadBytes, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(file.gcount()));
  return head;
}

// Values as logits have them, of 1e-3 to 1e4 as a rule: text, read as f32, has
// other exponents.
bool LooksLikeLogits(std::string_view head, uint64_t size) {
  if (size % sizeof(float) != 0) return false;
  size_t usual = 0;
  for (size_t at = 0; at + sizeof(float) <= head.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, head.data() + at, sizeof(float));
    if (!(std::fabs(value) < 1e4f)) return false;
    if (std::fabs(value) > 1e-3f) ++usual;
  }
  return 2 * usual >= head.size() / sizeof(float);
}

// A file is there: may it be replaced?
Status CheckContent(const PlannedOutput& output, uint64_t size, bool force) {
  const std::string head = HeadOf(output.path);
  const bool same = LooksLike(output.kind, head, size);
  if (output.goes_on) {
    if (same) return {};
    return Refuse(output,
                  fmt::format("line 1 is none of a {}", NameOf(output.kind)));
  }
  if (force || (same && output.kind != OutputKind::kStudy)) return {};
  if (same) {
    return Refuse(output,
                  "the study is there already; --resume goes on with it, "
                  "--force starts it anew");
  }
  return Refuse(output,
                fmt::format("the file exists and is no {}; --force replaces it",
                            NameOf(output.kind)));
}

// The directory takes new files.
Status CheckDirectory(const PlannedOutput& output) {
  std::string directory = fs::path(output.path).parent_path().string();
  if (directory.empty()) directory = ".";
  if (access(directory.c_str(), W_OK | X_OK) == 0) return {};
  return CannotWrite(output, "to " + directory, errno);
}

Status CheckName(const PlannedOutput& output) {
  const std::string name = fs::path(output.path).filename().string();
  const size_t suffix =
      output.kind == OutputKind::kSession ? kTemporarySuffix : 0;
  if (name.size() + suffix > NAME_MAX || output.path.size() >= PATH_MAX) {
    return Status::Usage(fmt::format(
        "{}: the name of the file is too long ({} characters; allowed: {})",
        output.flag, name.size(), NAME_MAX - suffix));
  }
  if (name.empty()) return Refuse(output, "this is a directory, not a file");
  return {};
}

Status CheckOne(const PlannedOutput& output, bool force) {
  PKV_RETURN_IF_ERROR(CheckName(output));
  struct stat info;
  if (stat(output.path.c_str(), &info) != 0) {
    if (errno != ENOENT) return CannotWrite(output, "it", errno);
    return CheckDirectory(output);
  }
  if (S_ISDIR(info.st_mode)) {
    return Refuse(output, "this is a directory, not a file");
  }
  if (!S_ISREG(info.st_mode)) {
    if (output.kind != OutputKind::kSession && !output.goes_on) return {};
    return Refuse(output, "this is no regular file");
  }
  if (info.st_size > 0) {
    PKV_RETURN_IF_ERROR(
        CheckContent(output, static_cast<uint64_t>(info.st_size), force));
  }
  // A session takes the place of the file; others are written into it.
  if (output.kind == OutputKind::kSession) return CheckDirectory(output);
  if (access(output.path.c_str(), W_OK) == 0) return {};
  return CannotWrite(output, "it", errno);
}

}  // namespace

bool LooksLike(OutputKind kind, std::string_view head, uint64_t size) {
  const auto has = [head](std::string_view text) {
    return head.find(text) != head.npos;
  };
  switch (kind) {
    case OutputKind::kSession:
      return head.starts_with("PKVSESS\x1a");
    case OutputKind::kLines:
      return head.starts_with('{') && has("\"layer\":") && has("\"head\":") &&
             has("\"kept_positions\":");
    case OutputKind::kStudy:
      return head.starts_with("{\"task\":") && has("\"model_bytes\":");
    case OutputKind::kLogits:
      return LooksLikeLogits(head, size);
  }
  return false;
}

Status CheckOutputs(std::span<const PlannedOutput> outputs,
                    std::span<const PlannedInput> inputs, bool force) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const PlannedOutput& output = outputs[i];
    if (output.path.empty()) continue;
    PKV_RETURN_IF_ERROR(CheckName(output));
    for (const PlannedInput& input : inputs) {
      const bool session =
          input.is_session && output.kind == OutputKind::kSession;
      if (input.path.empty() || input.path == "-" || session) continue;
      if (!SameFile(output.path, input.path)) continue;
      // Both ends of a terminal or a pipe lose nothing.
      if (!IsRegular(input.path) && fs::exists(input.path)) continue;
      return Refuse(output, fmt::format("{} reads this file", input.flag));
    }
    for (const PlannedOutput& other : outputs.first(i)) {
      if (other.path.empty() || !SameFile(output.path, other.path)) continue;
      if (fs::exists(other.path) && !IsRegular(other.path)) continue;
      return Refuse(output, fmt::format("{} writes this file", other.flag));
    }
    PKV_RETURN_IF_ERROR(CheckOne(output, force));
  }
  return {};
}

PlannedInput ModelInput(const std::string& flag) {
  const Result<std::string> path = ResolveModelPath(flag);
  return {"--model", path.ok() ? *path : ""};
}

CLI::Option* AddForce(CLI::App* app, bool* force) {
  return AddSwitch(app, "--force", force,
                   "Replace files that were not written by the same flag");
}

}  // namespace pyramidkv::cli
