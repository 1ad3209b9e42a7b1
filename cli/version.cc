#include "cli/version.h"

#include <fmt/format.h>

#include <vector>

#include "pyramidkv_commit.h"  // made by cmake/WriteCommit.cmake

namespace pyramidkv::cli {

std::string Version() { return PYRAMIDKV_VERSION; }

std::string Commit() { return PYRAMIDKV_COMMIT; }

bool IsDebugBuild() {
#if defined(__OPTIMIZE__) && !defined(PYRAMIDKV_DCHECKS)
  return false;
#else
  return true;
#endif
}

std::string LibraryList(const MachineInfo& machine) {
  std::vector<std::string> names;
  for (const auto& [name, version] : machine.libraries) {
    names.push_back(fmt::format("{} {}", name, version));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string VersionText() {
  const MachineInfo machine = DescribeMachine();
  return fmt::format("pyramidkv {} ({}{})\nkernels: {}\nlibraries: {}\n",
                     Version(), Commit(), IsDebugBuild() ? ", debug build" : "",
                     machine.cpu_path, LibraryList(machine));
}

}  // namespace pyramidkv::cli
