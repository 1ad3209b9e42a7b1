// The contents of a stored session, read without its model. Session::Save
// writes such files, Engine::LoadSession goes on with them
// (pyramidkv/engine.h).

#ifndef PYRAMIDKV_STORED_SESSION_H_
#define PYRAMIDKV_STORED_SESSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pyramidkv/engine.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Entries that left the cache and can be fetched again (remainder=offload).
struct StoredTier {
  std::string index;        // sign, skew, quest or cluster
  int64_t entries = 0;      // sum over layers and KV heads
  int64_t block_bytes = 0;  // of their K and V, wherever a load puts them
  int64_t index_bytes = 0;  // in memory
};

struct StoredLayer {
  int64_t bytes = 0;      // in the cache: pages and side arrays
  std::vector<int> kept;  // [kv_heads] entries in the cache
  std::vector<int> cold;  // [kv_heads] entries in the cold tier; empty: none
};

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
  int64_t entries = 0;   // in the cache: sum over layers and KV heads
  int64_t entries_full = 0;
  int64_t bytes = 0;       // in memory when it was saved, a tier's included
  int64_t hot_bytes = 0;   // of which the cache: pages and side arrays
  int64_t bytes_full = 0;  // the same tokens, uncompressed f16
  int64_t file_bytes = 0;
  std::vector<StoredLayer> layers;
  std::optional<StoredTier> tier;  // none without remainder=offload
};

// Looks at the beginning and the end of the file only: a chunk in the middle
// may be damaged.
// Errors: kModel if it is missing, unreadable, of another version or damaged.
Result<StoredSession> ReadStoredSession(const std::string& path);

// The same once every byte was checked.
Result<StoredSession> VerifyStoredSession(const std::string& path);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_STORED_SESSION_H_
