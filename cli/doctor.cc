#include "cli/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "cli/text_format.h"
#include "cli/version.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

bool Has(const MachineInfo& machine, const std::string& feature) {
  const auto& all = machine.cpu_features;
  return std::any_of(all.begin(), all.end(), [&](const auto& f) {
    return f.first == feature && f.second;
  });
}

void FindCpu(const Health& h, std::vector<Finding>* findings) {
  if (!h.machine.fast_path) {
    findings->push_back({"slow",
                         "this CPU has no AVX2: matrix products go through "
                         "ggml and oneDNN, several times slower"});
  } else if (!Has(h.machine, "AVX-512 VNNI")) {
    findings->push_back({"slow",
                         "this CPU has no AVX-512 VNNI: prompts and tokens "
                         "take about twice as long as with it"});
  }
  if (h.debug_build) {
    findings->push_back({"slow",
                         "this is a debug build: cmake --preset release makes "
                         "one that is several times faster"});
  }
}

void FindThreads(const Health& h, std::vector<Finding>* findings) {
  const MachineInfo& m = h.machine;
  const auto slow = [&](std::string text) {
    findings->push_back({"slow", std::move(text)});
  };
  if (h.threads > m.threads) {
    slow(fmt::format("{} threads share {} processors: give -t {}", h.threads,
                     m.threads, m.threads));
  } else if (h.threads < m.threads) {
    slow(
        fmt::format("{} of {} threads that may run: give -t {}, or unset "
                    "OMP_NUM_THREADS",
                    h.threads, m.threads, m.threads));
  }
  if (m.quota_processors > 0 && m.quota_processors < m.processors) {
    slow(fmt::format("a quota of the control group allows {} of {} processors",
                     m.quota_processors, m.processors));
  } else if (m.usable_processors > 0 && m.usable_processors < m.processors) {
    slow(fmt::format("the affinity mask (taskset) allows {} of {} processors",
                     m.usable_processors, m.processors));
  }
  if (h.load > 0.5) {
    slow(fmt::format("other programs keep {:.1f} of {} processors busy", h.load,
                     m.processors));
  }
}

void FindModel(const Health& h, std::vector<Finding>* findings) {
  if (!h.model.ok()) {
    findings->push_back({"model", h.model.status().message()});
    return;
  }
  const int64_t available = h.machine.available_bytes;
  const int64_t weights = h.model->file_bytes;
  if (weights > available) {
    findings->push_back(
        {"memory", fmt::format("the model takes {}, {} are available: it will "
                               "be read from disk again and again",
                               MiB(weights), MiB(available))});
  } else if (weights + h.full_cache_bytes > available) {
    findings->push_back(
        {"memory",
         fmt::format(
             "a full cache of all {} tokens takes {} beside the model's "
             "{}: give -c, or a smaller cache with --kv",
             h.model->context_length, MiB(h.full_cache_bytes), MiB(weights))});
  }
}

}  // namespace

Health Examine(const Result<std::string>& model_path, int threads) {
  Health health;
  double load = 0;  // before our own
  if (getloadavg(&load, 1) == 1) health.load = load;
  health.machine = DescribeMachine();
  health.threads = threads > 0 ? threads : health.machine.threads;
  health.read_bytes_per_s = MeasureReadSpeed(health.threads);
  health.debug_build = IsDebugBuild();
  if (!model_path.ok()) {
    health.model = model_path.status();
    return health;
  }
  health.model = ReadModelInfo(*model_path);
  const Result<PlanDims> dims = PlanDimsOfModel(*model_path);
  if (!dims.ok()) return health;
  const Result<CachePlan> plan = PlanCache("full", *dims);
  if (plan.ok()) health.full_cache_bytes = plan->bytes;
  return health;
}

std::vector<Finding> FindingsOf(const Health& health) {
  std::vector<Finding> findings;
  FindCpu(health, &findings);
  FindThreads(health, &findings);
  FindModel(health, &findings);
  return findings;
}

}  // namespace pyramidkv::cli
