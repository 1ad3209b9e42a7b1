// oneDNN takes its number of threads from OpenMP, which keeps it per thread.
// Ours call it one item each, from whatever thread a user steps in: there it
// must not start threads of its own, and nobody else is to notice.

#ifndef PYRAMIDKV_BASE_ONE_OMP_THREAD_H_
#define PYRAMIDKV_BASE_ONE_OMP_THREAD_H_

#include <omp.h>

namespace pyramidkv {

// One thread as long as this lives, in the thread that made it.
class OneOmpThread {
 public:
  OneOmpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOmpThread() { omp_set_num_threads(before_); }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  int before_;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_ONE_OMP_THREAD_H_
