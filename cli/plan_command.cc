// `pyramidkv plan`: budgets and bytes before any weight is read.

#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/text_format.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

constexpr int kMaxDim = 1 << 24;

struct PlanFlags {
  std::string model;
  PlanDims dims;  // 0: not given; tokens is --ctx-size
  CacheFlags cache;
  bool json = false;
};

// Dims from flags alone. Errors: kUsage with the flags that are missing.
Result<PlanDims> GivenDims(const PlanFlags& flags) {
  if (!flags.model.empty()) {
    return Status::Usage(
        "--model has its own dimensions: leave out --layers, --kv-heads and "
        "--head-dim");
  }
  std::vector<std::string> missing;
  if (flags.dims.layers == 0) missing.push_back("--layers");
  if (flags.dims.kv_heads == 0) missing.push_back("--kv-heads");
  if (flags.dims.head_dim == 0) missing.push_back("--head-dim");
  if (flags.dims.tokens == 0) missing.push_back("--ctx-size");
  if (missing.empty()) return flags.dims;
  return Status::Usage(fmt::format("without a model the plan also needs {}",
                                   fmt::join(missing, ", ")));
}

Result<PlanDims> ResolveDims(const PlanFlags& flags) {
  const PlanDims& given = flags.dims;
  if (given.layers + given.kv_heads + given.head_dim > 0) {
    return GivenDims(flags);
  }
  PKV_ASSIGN_OR_RETURN(const std::string path, ResolveModelPath(flags.model));
  PKV_ASSIGN_OR_RETURN(PlanDims dims, PlanDimsOfModel(path));
  if (given.tokens > 0) dims.tokens = given.tokens;
  dims.sequences = given.sequences;
  return dims;
}

Status Plan(const PlanFlags& flags) {
  PKV_ASSIGN_OR_RETURN(const std::vector<std::string> specs,
                       ResolveSpecs(flags.cache));
  PKV_ASSIGN_OR_RETURN(const PlanDims dims, ResolveDims(flags));
  std::vector<CachePlan> plans;
  for (const std::string& spec : specs) {
    PKV_ASSIGN_OR_RETURN(CachePlan plan, PlanCache(spec, dims));
    plans.push_back(std::move(plan));
  }
  if (flags.json) return WriteStdout(Dump(PlanJson(dims, plans)));
  for (const CachePlan& plan : plans) {
    for (const std::string& warning : plan.warnings) {
      LogLine(fmt::format("warning: {}: {}", plan.spec, warning));
    }
  }
  return WriteStdout(PlanTable(dims, plans));
}

void AddDim(CLI::App* app, const char* names, int* value, const char* help) {
  app->add_option(names, *value, help)
      ->check(InRange(1, kMaxDim))
      ->type_name("N");
}

}  // namespace

Command AddPlanCommand(CLI::App& root) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* app = root.add_subcommand(
      "plan", "Budgets and bytes of caches, for a model or given dimensions");
  AddModelPath(app, &flags->model);
  AddDim(app, "--layers", &flags->dims.layers, "Layers, without a model");
  AddDim(app, "--kv-heads", &flags->dims.kv_heads, "KV heads of a layer");
  AddDim(app, "--head-dim", &flags->dims.head_dim, "Size of a head");
  AddContextSize(app, &flags->dims.tokens);
  AddDim(app, "--parallel", &flags->dims.sequences,
         "Caches of this size, also -np [1]");
  AddCacheFlags(app, &flags->cache, true);
  app->add_option("--type", flags->cache.type, "Both cache types at once")
      ->type_name("f32|f16|bf16");
  AddJson(app, &flags->json);
  return {app, [flags] { return Plan(*flags); }};
}

}  // namespace pyramidkv::cli
