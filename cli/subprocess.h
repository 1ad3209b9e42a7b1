// Runs this same program again, for measurements that need a process of their
// own.

#ifndef PYRAMIDKV_CLI_SUBPROCESS_H_
#define PYRAMIDKV_CLI_SUBPROCESS_H_

#include <string>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv::cli {

// The stdout of `pyramidkv args...`. Its log goes to our stderr; if
// it fails, the Status has its exit code and the last line of its log. A stop
// request is passed on to it.
Result<std::string> RunSelf(const std::vector<std::string>& args);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_SUBPROCESS_H_
