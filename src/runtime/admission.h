// How much memory a request may take, before it is begun: what a scheduler
// admits requests by.

#ifndef PYRAMIDKV_RUNTIME_ADMISSION_H_
#define PYRAMIDKV_RUNTIME_ADMISSION_H_

#include <cstdint>

#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/forward_context.h"

namespace pyramidkv {

struct RequestSize {
  int before = 0;  // tokens that the session has seen
  int prompt = 0;
  int answer = 0;  // at most
};

struct RequestBytes {
  int64_t cache = 0;   // Sequence::bytes() at any time, at most
  int64_t prompt = 0;  // beside it while the prompt is read (PromptWorkspace)

  int64_t all() const { return cache + prompt; }
};

// Errors: kUsage and kDoesNotFit of PlanCache.
Result<RequestBytes> PlanRequest(const CacheSpec& spec,
                                 const ForwardContext& context,
                                 const RequestSize& size);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_ADMISSION_H_
