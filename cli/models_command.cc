// `pyramidkv models`: the models that are here, and which of them run.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/text_format.h"
#include "pyramidkv/engine.h"

namespace pyramidkv::cli {
namespace {

struct Found {
  std::string path;
  bool taken = false;  // without -m
  Result<ModelInfo> info;
};

std::vector<Found> Look() {
  const Result<std::string> taken = ResolveModelPath("");
  std::vector<std::string> paths = FindModels();
  if (taken.ok() &&
      std::find(paths.begin(), paths.end(), *taken) == paths.end()) {
    paths.insert(paths.begin(), *taken);  // of the environment
  }
  std::vector<Found> all;
  for (std::string& path : paths) {
    Result<ModelInfo> info = ReadModelInfo(path);
    const bool is_taken = taken.ok() && path == *taken;
    all.push_back({std::move(path), is_taken, std::move(info)});
  }
  return all;
}

// Without the path, which stands in front of it already.
std::string WhyNot(const Found& found) {
  const std::string& message = found.info.status().message();
  const std::string prefix = found.path + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

Json ModelJson(const Found& found) {
  Json json = {{"path", found.path},
               {"default", found.taken},
               {"runs", found.info.ok()}};
  if (!found.info.ok()) {
    json["why_not"] = WhyNot(found);
    return json;
  }
  const ModelInfo& info = *found.info;
  json["name"] = info.name;
  json["architecture"] = info.architecture;
  json["layers"] = info.layers;
  json["context_length"] = info.context_length;
  json["parameters"] = info.parameters;
  json["file_bytes"] = info.file_bytes;
  return json;
}

std::string ModelTable(const std::vector<Found>& all) {
  std::vector<std::vector<std::string>> rows = {
      {"", "file", "size", "parameters", "context", "architecture"}};
  std::string refused;
  for (const Found& found : all) {
    if (!found.info.ok()) {
      refused +=
          fmt::format("does not run: {}: {}\n", found.path, WhyNot(found));
      continue;
    }
    const ModelInfo& info = *found.info;
    rows.push_back({found.taken ? "*" : "", found.path, MiB(info.file_bytes),
                    fmt::format("{} M", info.parameters / 1000000),
                    fmt::format("{}", info.context_length), info.architecture});
  }
  std::string text;
  if (rows.size() > 1) {
    text = AlignedTable(rows, {true, true, false, false, false, true});
    text += "* is taken without -m. -m takes these names, too.\n";
  }
  return text + refused;
}

Status Models(bool json) {
  const std::vector<Found> all = Look();
  if (json) {
    Json list = Json::array();
    for (const Found& found : all) list.push_back(ModelJson(found));
    return WriteStdout(Dump({{"models", std::move(list)}}));
  }
  if (all.empty()) {
    return WriteStdout(
        fmt::format("no GGUF file in {}; script/bootstrap brings one\n",
                    fmt::join(ModelDirectories(), " or ")));
  }
  return WriteStdout(ModelTable(all));
}

}  // namespace

Command AddModelsCommand(CLI::App& root) {
  auto json = std::make_shared<bool>(false);
  CLI::App* app =
      root.add_subcommand("models", "Models that are here, and which run");
  AddJson(app, json.get());
  return {app, [json] { return Models(*json); }};
}

}  // namespace pyramidkv::cli
