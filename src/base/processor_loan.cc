#include "base/processor_loan.h"

#include <time.h>

namespace pyramidkv {
namespace {

// Where the system refuses, the thread stays where it may run: a loan is a
// matter of speed alone.
void Bind(pthread_t thread, const cpu_set_t& processors) {
  pthread_setaffinity_np(thread, sizeof(processors), &processors);
}

}  // namespace

int64_t ProcessorTime(pthread_t thread) {
  clockid_t clock;
  timespec time;
  if (pthread_getcpuclockid(thread, &clock) != 0) return -1;
  if (clock_gettime(clock, &time) != 0) return -1;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

ProcessorLoan::ProcessorLoan(pthread_t thread)
    : thread_(thread), processor_(sched_getcpu()) {
  if (pthread_getaffinity_np(thread, sizeof(own_), &own_) != 0 ||
      processor_ < 0 || processor_ >= CPU_SETSIZE ||
      !CPU_ISSET(processor_, &own_) || CPU_COUNT(&own_) < 2) {
    processor_ = -1;
    return;
  }
  cpu_set_t lent;
  CPU_ZERO(&lent);
  CPU_SET(processor_, &lent);
  Bind(thread, lent);
}

ProcessorLoan::~ProcessorLoan() {
  if (processor_ < 0) return;
  cpu_set_t others = own_;
  CPU_CLR(processor_, &others);
  Bind(thread_, others);
  Bind(thread_, own_);
}

}  // namespace pyramidkv
