// Sleeping until a word changes: the system call, without the turns of
// sched_yield that std::atomic::wait makes first. A thread that yields hands
// the rest of its time to its neighbours, one that sleeps keeps it.

#ifndef PYRAMIDKV_BASE_FUTEX_H_
#define PYRAMIDKV_BASE_FUTEX_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace pyramidkv {

// Sleeps while *word is `expected`; may also return for no reason.
inline void FutexWait(const std::atomic<uint32_t>* word, uint32_t expected) {
  static_assert(sizeof(*word) == sizeof(uint32_t));
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

// Wakes everyone who sleeps on the word. Change it before.
inline void FutexWakeAll(const std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_BASE_FUTEX_H_
