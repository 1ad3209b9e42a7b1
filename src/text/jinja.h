// The bridge to llama.cpp's Jinja engine. Templates are programs of strangers:
// each rendering runs in a process of its own, with bounded time, memory,
// stack and output.

#ifndef PYRAMIDKV_TEXT_JINJA_H_
#define PYRAMIDKV_TEXT_JINJA_H_

#include <ctime>
#include <string>

#include "base/child_process.h"
#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct JinjaInput {
  std::string source;
  // JSON objects of variables. Strings of `said` are what others say; those of
  // `own`, and the roles of said's messages, belong to the template.
  std::string own = "{}", said = "{}";
  std::time_t now = 0;  // of strftime_now
  ChildLimits limits = {};
};

// Trims blocks as transformers does. Errors: kModel in one line, with the place
// in the template: it does not parse, raises, or passes a bound; kRuntime
// where the system gives no process.
Result<ChatText> RenderJinja(const JinjaInput& input);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_JINJA_H_
