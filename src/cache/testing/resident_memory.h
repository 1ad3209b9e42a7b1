// Resident memory of the process, for tests that check that it falls.

#ifndef PYRAMIDKV_CACHE_TESTING_RESIDENT_MEMORY_H_
#define PYRAMIDKV_CACHE_TESTING_RESIDENT_MEMORY_H_

#include <unistd.h>

#include <cstdint>
#include <fstream>

namespace pyramidkv {

// The sanitizers keep memory of their own for what is touched.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kResidentMemoryIsOurs = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kResidentMemoryIsOurs = false;
#else
inline constexpr bool kResidentMemoryIsOurs = true;
#endif
#else
inline constexpr bool kResidentMemoryIsOurs = true;
#endif

inline int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_TESTING_RESIDENT_MEMORY_H_
