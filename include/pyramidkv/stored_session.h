// What a stored session holds, read without its model. Session::Save writes
// such files, Engine::LoadSession goes on with them (pyramidkv/engine.h).

#ifndef PYRAMIDKV_STORED_SESSION_H_
#define PYRAMIDKV_STORED_SESSION_H_

#include <cstdint>
#include <string>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct StoredSession {
  int format_version = 0;
  std::string session;      // 32 hexadecimal digits: which one
  uint64_t generation = 0;  // how often it was saved
  std::string model;        // name
  std::string architecture;
  Compute compute = Compute::kF32;  // of the arithmetic that made it
  std::string requested;            // the cache spec as it was given
  std::string spec;                 // the same in canonical form
  std::string policy;
  // The entries that stayed were chosen by what the end of the prompt looked
  // at (snapkv, pyramidkv, tova, ...): right for questions like that one.
  // Otherwise (kvzip, keydiff, full, ...) all questions are served alike.
  bool question_aware = false;
  int tokens = 0;        // seen
  int context_size = 0;  // that it goes on with unless told otherwise
  int64_t entries = 0;   // sum over layers and KV heads
  int64_t entries_full = 0;
  int64_t bytes = 0;       // of the cache in memory: pages and side arrays
  int64_t bytes_full = 0;  // the same tokens, uncompressed f16
  int64_t file_bytes = 0;
};

// Looks at the beginning and the end of the file only: a chunk in the middle
// may be damaged.
// Errors: kModel if it is missing, unreadable, of another version or damaged.
Result<StoredSession> ReadStoredSession(const std::string& path);

// The same once every byte was checked.
Result<StoredSession> VerifyStoredSession(const std::string& path);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_STORED_SESSION_H_
