// The machine and the libraries that this process computes with.

#ifndef PYRAMIDKV_MACHINE_H_
#define PYRAMIDKV_MACHINE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pyramidkv {

struct MachineInfo {
  std::string cpu;  // its name; empty where the system does not tell
  // What kernels can use, and whether this CPU has it.
  std::vector<std::pair<std::string, bool>> cpu_features;
  std::string cpu_path;       // the form of kernels that is taken
  bool fast_path = false;     // it is one of those that are written for speed
  int processors = 0;         // online
  int usable_processors = 0;  // by the affinity mask; 0: not told
  int quota_processors = 0;   // by control groups; 0: no quota
  int threads = 0;            // that run unless told otherwise
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;  // without taking it from others
  std::vector<std::pair<std::string, std::string>> libraries;  // and versions
};

MachineInfo DescribeMachine();

// The most memory that this process has had at once (VmHWM); 0 where the
// system does not tell.
int64_t PeakRssBytes();

// Bytes per second that `threads` >= 1 of them read from memory, measured for
// about 0.2 s; 0 without the memory to do it in.
double MeasureReadSpeed(int threads);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MACHINE_H_
