#include "cli/models.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace pyramidkv::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kDefault[] = "default.gguf";

bool Exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string UserDirectory() {
  const char* data = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  if (data != nullptr && *data == '/') {
    return std::string(data) + "/pyramidkv/models";
  }
  if (home == nullptr || *home != '/') return "";
  return std::string(home) + "/.local/share/pyramidkv/models";
}

std::string FileOf(const std::string& name) {
  if (Exists(name) || name.find('/') != name.npos) return name;
  for (const std::string& directory : ModelDirectories()) {
    for (const char* suffix : {"", ".gguf"}) {
      std::string path = fmt::format("{}/{}{}", directory, name, suffix);
      if (Exists(path)) return path;
    }
  }
  return name;
}

}  // namespace

std::vector<std::string> ModelDirectories() {
  std::vector<std::string> directories = {"models"};
  std::string user = UserDirectory();
  if (!user.empty()) directories.push_back(std::move(user));
  return directories;
}

Result<std::string> ResolveModelPath(const std::string& flag) {
  if (!flag.empty()) return FileOf(flag);
  for (const char* name : {"PYRAMIDKV_ARG_MODEL", "PYRAMIDKV_MODEL"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return FileOf(value);
  }
  for (const std::string& directory : ModelDirectories()) {
    std::string path = directory + "/" + kDefault;
    if (Exists(path)) return path;
  }
  return Status::Model(
      fmt::format("no model: there is no {} in {}; give -m FILE or "
                  "$PYRAMIDKV_MODEL, or run script/bootstrap",
                  kDefault, fmt::join(ModelDirectories(), " or ")));
}

std::vector<std::string> FindModels() {
  std::vector<std::string> all;
  for (const std::string& directory : ModelDirectories()) {
    std::vector<std::string> found;
    std::error_code error;
    for (fs::directory_iterator at(directory, error), end; at != end;
         at.increment(error)) {
      if (at->path().extension() == ".gguf") found.push_back(at->path());
    }
    std::sort(found.begin(), found.end());
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

}  // namespace pyramidkv::cli
