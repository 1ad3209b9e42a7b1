// DCHECK: programmer errors, on in debug and sanitizer builds only. User and
// file errors are Status (pyramidkv/status.h), never a check.

#ifndef PYRAMIDKV_BASE_CHECK_H_
#define PYRAMIDKV_BASE_CHECK_H_

#ifdef PYRAMIDKV_DCHECKS
#define DCHECK(condition)               \
  do {                                  \
    if (!(condition)) __builtin_trap(); \
  } while (false)
#else
#define DCHECK(condition) \
  do {                    \
    if (false) {          \
      (void)(condition);  \
    }                     \
  } while (false)
#endif

#endif  // PYRAMIDKV_BASE_CHECK_H_
