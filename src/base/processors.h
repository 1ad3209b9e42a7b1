// The processors that this process may use, which can be fewer than the
// machine has: an affinity mask (taskset, a container's cpuset) or a quota of
// processor time (a container's limit) leaves a part of them.
//
// Where the environment asks OpenMP to bind its threads (OMP_PROC_BIND,
// OMP_PLACES, GOMP_CPU_AFFINITY), its library binds the main thread to one
// place before main() runs, and every thread started from there inherits that
// mask. Then the places of OpenMP, which it took from the mask that the
// process started with, tell what may be used.
//
// Thread safety: everything here may be called from any thread.

#ifndef PYRAMIDKV_BASE_PROCESSORS_H_
#define PYRAMIDKV_BASE_PROCESSORS_H_

#include <string>
#include <vector>

namespace pyramidkv {

// Threads that can run at once: the processors of UsableProcessors, or as many
// whole ones as the quota is worth where that is less. At least 1.
int UsableThreads();

// Numbers of the processors that the affinity mask of the calling thread
// holds, or that OpenMP's places hold; ascending. Empty where the system does
// not tell.
std::vector<int> UsableProcessors();

// Whole processors that the quotas of this process's control groups (versions
// 1 and 2) and of the groups above them are worth, at least 1; 0 where there
// is no quota. Files are looked up below `root`, "" but for tests. A file that
// is missing or makes no sense sets no limit.
int QuotaProcessors(const std::string& root = "");

// Binds the calling thread to the place that OpenMP has for its worker
// `worker` >= 0 (places are taken in turn where there are fewer of them).
// Does nothing where OpenMP binds nothing.
void BindWorker(int worker);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_PROCESSORS_H_
