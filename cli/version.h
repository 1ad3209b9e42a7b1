// The version of this program, and what it was built from.

#ifndef PYRAMIDKV_CLI_VERSION_H_
#define PYRAMIDKV_CLI_VERSION_H_

#include <string>

#include "pyramidkv/machine.h"

namespace pyramidkv::cli {

std::string Version();  // "0.1.0"
// Of the sources, with "-dirty" where they were changed; "unknown" where they
// came without their history.
std::string Commit();
// Compiled for debugging: several times slower.
bool IsDebugBuild();

// "llama.cpp 1.0, oneDNN 2.6.0"
std::string LibraryList(const MachineInfo& machine);

// Version and commit, the form of kernels that this CPU gets, libraries: a
// line each.
std::string VersionText();

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_VERSION_H_
