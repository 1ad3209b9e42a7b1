// `pyramidkv doctor`: the machine, the model and the libraries, and what among
// them makes answers slow.

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/doctor.h"
#include "cli/json_output.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/text_format.h"
#include "cli/version.h"

namespace pyramidkv::cli {
namespace {

struct DoctorFlags {
  std::string model;
  int threads = 0;
  bool json = false;
};

using Lines = std::vector<std::pair<std::string, std::string>>;

std::string FeatureText(const MachineInfo& machine) {
  std::vector<std::string> has, lacks;
  for (const auto& [name, there] : machine.cpu_features) {
    (there ? has : lacks).push_back(name);
  }
  std::string text =
      has.empty() ? "none of ours" : fmt::format("{}", fmt::join(has, ", "));
  if (!lacks.empty()) text += fmt::format("; not {}", fmt::join(lacks, ", "));
  return text;
}

std::string ThreadText(const Health& h) {
  std::string text =
      fmt::format("{} of {} processors", h.threads, h.machine.processors);
  if (h.machine.usable_processors > 0) {
    text +=
        fmt::format("; {} by the affinity mask", h.machine.usable_processors);
  }
  if (h.machine.quota_processors > 0) {
    text += fmt::format(", {} by the quota", h.machine.quota_processors);
  }
  return text + fmt::format("; load {:.1f}", h.load);
}

std::string MemoryText(const Health& h) {
  return fmt::format("{}, {} available; {} threads read {:.1f} GB/s",
                     MiB(h.machine.memory_bytes),
                     MiB(h.machine.available_bytes), h.threads,
                     h.read_bytes_per_s / 1e9);
}

std::string ModelText(const Health& h) {
  if (!h.model.ok()) return h.model.status().message();
  const ModelInfo& info = *h.model;
  std::string text =
      fmt::format("{}: {}, {}, {}, context {}", info.path, info.name,
                  info.architecture, MiB(info.file_bytes), info.context_length);
  if (h.read_bytes_per_s > 0) {
    // Each token reads all weights once.
    text +=
        fmt::format("; memory allows {:.0f} tokens/s",
                    h.read_bytes_per_s / static_cast<double>(info.file_bytes));
  }
  return text;
}

std::string DoctorText(const Health& h, const std::vector<Finding>& findings) {
  const Lines lines = {{"version", fmt::format("{} ({})", Version(), Commit())},
                       {"CPU", h.machine.cpu},
                       {"features", FeatureText(h.machine)},
                       {"kernels", h.machine.cpu_path},
                       {"threads", ThreadText(h)},
                       {"memory", MemoryText(h)},
                       {"model", ModelText(h)},
                       {"libraries", LibraryList(h.machine)}};
  std::string text;
  for (const auto& [name, value] : lines) {
    text += fmt::format("{:<10} {}\n", name, value);
  }
  text += "\n";
  for (const Finding& finding : findings) {
    text += fmt::format("{}: {}\n", finding.word, finding.text);
  }
  return text +
         (findings.empty() ? "ok: nothing found that slows it down\n" : "");
}

Json DoctorJson(const Health& h, const std::vector<Finding>& findings) {
  Json features, libraries, list = Json::array();
  for (const auto& [name, there] : h.machine.cpu_features) {
    features[name] = there;
  }
  for (const auto& [name, version] : h.machine.libraries) {
    libraries[name] = version;
  }
  for (const Finding& finding : findings) {
    list.push_back({{"kind", finding.word}, {"text", finding.text}});
  }
  Json json = {{"version", Version()},
               {"commit", Commit()},
               {"cpu", h.machine.cpu},
               {"cpu_features", std::move(features)},
               {"kernels", h.machine.cpu_path},
               {"processors", h.machine.processors},
               {"usable_processors", h.machine.usable_processors},
               {"quota_processors", h.machine.quota_processors},
               {"threads", h.threads},
               {"load", h.load},
               {"memory_bytes", h.machine.memory_bytes},
               {"available_bytes", h.machine.available_bytes},
               {"read_bytes_per_s", h.read_bytes_per_s},
               {"model", nullptr},
               {"libraries", std::move(libraries)},
               {"findings", std::move(list)}};
  if (h.model.ok()) {
    json["model"] = {{"path", h.model->path},
                     {"name", h.model->name},
                     {"architecture", h.model->architecture},
                     {"context_length", h.model->context_length},
                     {"parameters", h.model->parameters},
                     {"file_bytes", h.model->file_bytes}};
  }
  return json;
}

Status Doctor(const DoctorFlags& flags) {
  const Health health =
      Examine(ResolveModelPath(flags.model), ResolveThreads(flags.threads));
  const std::vector<Finding> findings = FindingsOf(health);
  return WriteStdout(flags.json ? Dump(DoctorJson(health, findings))
                                : DoctorText(health, findings));
}

}  // namespace

Command AddDoctorCommand(CLI::App& root) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* app = root.add_subcommand(
      "doctor", "The machine, the model, and what is slow and why");
  AddModelPath(app, &flags->model);
  AddThreads(app, &flags->threads);
  AddJson(app, &flags->json);
  return {app, [flags] { return Doctor(*flags); }};
}

}  // namespace pyramidkv::cli
