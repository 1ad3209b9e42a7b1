#include "base/processors.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

namespace pyramidkv {
namespace {

constexpr int kMostProcessors = 1 << 16;

// A set of processors of any size.
class Mask {
 public:
  explicit Mask(int processors)
      : bytes_(CPU_ALLOC_SIZE(processors)),
        set_(CPU_ALLOC(processors), [](cpu_set_t* set) { CPU_FREE(set); }) {
    CPU_ZERO_S(bytes_, set_.get());
  }
  void Add(int processor) { CPU_SET_S(processor, bytes_, set_.get()); }
  bool Has(int processor) const {
    return CPU_ISSET_S(processor, bytes_, set_.get());
  }
  bool ReadFromThread() {
    return sched_getaffinity(0, bytes_, set_.get()) == 0;
  }
  void BindThread() const { sched_setaffinity(0, bytes_, set_.get()); }

 private:
  size_t bytes_;
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set_;
};

std::vector<int> ThreadsProcessors() {
  // The system refuses a mask that is smaller than its own.
  for (int size = CPU_SETSIZE; size <= kMostProcessors; size *= 2) {
    Mask mask(size);
    if (!mask.ReadFromThread()) continue;
    std::vector<int> processors;
    for (int i = 0; i < size; ++i) {
      if (mask.Has(i)) processors.push_back(i);
    }
    return processors;
  }
  return {};
}

std::vector<int> ProcessorsOfPlace(int place) {
  std::vector<int> processors(omp_get_place_num_procs(place));
  omp_get_place_proc_ids(place, processors.data());
  return processors;
}

// A hierarchy of control groups, as it is mounted.
struct Mount {
  std::string group;      // that lies at the mount point
  std::string directory;  // the mount point
};

std::vector<std::string> Split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, by);) parts.push_back(part);
  return parts;
}

bool Lists(const std::string& names, const std::string& name) {
  const std::vector<std::string> all = Split(names, ',');
  return std::find(all.begin(), all.end(), name) != all.end();
}

// The hierarchy of version 2, or the one of version 1 for processor time.
bool FindMount(const std::string& root, bool version2, Mount* mount) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    // ID PARENT DEVICE GROUP DIRECTORY ... - TYPE SOURCE OPTIONS
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const std::vector<std::string> left = Split(line.substr(0, dash), ' ');
    const std::vector<std::string> right = Split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    const bool found = version2
                           ? right[0] == "cgroup2"
                           : right[0] == "cgroup" && Lists(right[2], "cpu");
    if (!found) continue;
    *mount = {left[3], left[4]};
    return true;
  }
  return false;
}

// This process's group in that hierarchy.
std::string FindGroup(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    // NUMBER:CONTROLLERS:GROUP, where version 2 has number 0 and no
    // controllers.
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (version2 ? names.empty() : Lists(names, "cpu")) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

// Processors that the quota of one directory is worth; 0: none.
double QuotaOf(const std::string& directory, bool version2) {
  std::string quota;
  double period = 0;
  if (version2) {
    std::ifstream(directory + "/cpu.max") >> quota >> period;
  } else {
    std::ifstream(directory + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(directory + "/cpu.cfs_period_us") >> period;
  }
  double time = 0;  // "max" and -1 are no quota
  std::istringstream(quota) >> time;
  return time > 0 && period > 0 ? time / period : 0;
}

// The least quota of this process's group and of those above it; 0: none.
double LeastQuota(const std::string& root, bool version2) {
  Mount mount;
  if (!FindMount(root, version2, &mount)) return 0;
  std::string group = FindGroup(root, version2);
  if (mount.group != "/") {
    // A container sees its own group at the mount point.
    const bool inside = group.starts_with(mount.group);
    group = inside ? group.substr(mount.group.size()) : "";
  }
  double least = 0;
  for (;;) {
    const double quota = QuotaOf(root + mount.directory + group, version2);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.resize(slash);
  }
}

}  // namespace

std::vector<int> UsableProcessors() {
  const int places = omp_get_num_places();
  if (places == 0) return ThreadsProcessors();
  std::vector<int> processors;
  for (int place = 0; place < places; ++place) {
    const std::vector<int> more = ProcessorsOfPlace(place);
    processors.insert(processors.end(), more.begin(), more.end());
  }
  std::sort(processors.begin(), processors.end());
  processors.erase(std::unique(processors.begin(), processors.end()),
                   processors.end());
  return processors;
}

int QuotaProcessors(const std::string& root) {
  double least = 0;
  for (const bool version2 : {false, true}) {
    const double quota = LeastQuota(root, version2);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  }
  if (least == 0) return 0;
  // Rounded down: threads that wait for each other spend the quota, too.
  return static_cast<int>(std::clamp(least, 1.0, double{kMostProcessors}));
}

int UsableThreads() {
  int count = static_cast<int>(UsableProcessors().size());
  if (count == 0) count = static_cast<int>(std::thread::hardware_concurrency());
  const int quota = QuotaProcessors();
  if (quota > 0) count = std::min(count, quota);
  return std::max(count, 1);
}

void BindWorker(int worker) {
  const int places = omp_get_num_places();
  if (places == 0) return;
  const std::vector<int> processors = ProcessorsOfPlace(worker % places);
  if (processors.empty()) return;
  Mask mask(*std::max_element(processors.begin(), processors.end()) + 1);
  for (const int processor : processors) mask.Add(processor);
  mask.BindThread();
}

}  // namespace pyramidkv
