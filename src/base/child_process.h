// Work that strangers wrote, such as a template, in a process of its own: what
// it takes of time, memory and stack is bounded by the system, and what it
// breaks is not ours.
//
// Thread-safe: the child has one thread and only computes. It is a fork, so
// `work` sees all memory as it is, and what it writes there is lost.

#ifndef PYRAMIDKV_BASE_CHILD_PROCESS_H_
#define PYRAMIDKV_BASE_CHILD_PROCESS_H_

#include <cstdint>
#include <functional>
#include <string>

namespace pyramidkv {

struct ChildLimits {
  double cpu_seconds = 5;
  int64_t memory_bytes = int64_t{512} << 20;  // beyond what the process has
  int64_t output_bytes = int64_t{64} << 20;
};

struct ChildOutcome {
  enum class Kind {
    kOutput,  // `text` is what `work` returned
    kThrown,  // the exception's what()
    kLimit,   // the bound that was passed: "more than 5 s of CPU time"
    kNoChild  // the system's reason
  };
  Kind kind = Kind::kOutput;
  std::string text;
};

// Runs `work` to its end or to a limit. Its output streams lead nowhere.
ChildOutcome RunInChild(const ChildLimits& limits,
                        const std::function<std::string()>& work);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_CHILD_PROCESS_H_
