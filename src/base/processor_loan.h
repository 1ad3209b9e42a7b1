// A processor for a thread that was stopped in the middle of its work. When a
// program of somebody else takes the processor of one thread and a second one
// has to wait for the first, the system leaves the first where it is for a
// tick (3 to 4 ms), although the second's processor idles. So who waits hands
// over its own.
//
// Thread safety: everything here may be called from any thread, about threads
// that have not been joined.

#ifndef PYRAMIDKV_BASE_PROCESSOR_LOAN_H_
#define PYRAMIDKV_BASE_PROCESSOR_LOAN_H_

#include <pthread.h>
#include <sched.h>

#include <cstdint>

namespace pyramidkv {

// Processor time that `thread` has used, in ns; -1 where the system does not
// tell. It stands still while the thread has no processor.
int64_t ProcessorTime(pthread_t thread);

// While it lives, `thread` may run on the processor of the thread that made
// the loan and on no other: the borrower starts there as soon as the lender
// sleeps. At its end the borrower goes to another of its own processors, and
// its mask is as it was. Does nothing where the mask of `thread` does not hold
// the lender's processor, or none beside it.
class ProcessorLoan {
 public:
  explicit ProcessorLoan(pthread_t thread);
  ~ProcessorLoan();
  ProcessorLoan(const ProcessorLoan&) = delete;
  ProcessorLoan& operator=(const ProcessorLoan&) = delete;

  // -1 where nothing was lent.
  int processor() const { return processor_; }

 private:
  const pthread_t thread_;
  int processor_;
  cpu_set_t own_;  // the borrower's mask
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_PROCESSOR_LOAN_H_
