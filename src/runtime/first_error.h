// The outcome of work that was done in parallel.

#ifndef PYRAMIDKV_RUNTIME_FIRST_ERROR_H_
#define PYRAMIDKV_RUNTIME_FIRST_ERROR_H_

#include <span>

#include "pyramidkv/status.h"

namespace pyramidkv {

// The first of `all` that is not ok; ok if there is none.
inline Status FirstError(std::span<const Status> all) {
  for (const Status& status : all) PKV_RETURN_IF_ERROR(status);
  return {};
}

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_FIRST_ERROR_H_
