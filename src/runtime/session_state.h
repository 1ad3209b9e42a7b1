// A session file's content: first what it is about, which can be read without
// a model, then the state of the compression, then every head of the cache,
// then the cold tier (session_cold.h).

#ifndef PYRAMIDKV_RUNTIME_SESSION_STATE_H_
#define PYRAMIDKV_RUNTIME_SESSION_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/fingerprint.h"
#include "policy/spec.h"
#include "pyramidkv/status.h"
#include "runtime/sequence.h"
#include "runtime/session_stream.h"

namespace pyramidkv {

// Far from where sums of positions would overflow.
inline constexpr int kMostStoredTokens = 1 << 29;

struct SessionHead {
  std::string model;  // its name, for people
  std::string architecture;
  ModelFingerprint fingerprint;
  int32_t compute = 0;  // a Compute
  int32_t layers = 0, kv_heads = 0, head_dim = 0;
  int32_t page_entries = 0;
  int64_t page_bytes = 0;
  std::string spec;       // canonical form
  std::string requested;  // as it was given
  int32_t context_size = 0;
  int32_t max_new_tokens = 0;
  int32_t rope_shift = 0;
  int64_t entries = 0, entries_full = 0;
  int64_t bytes = 0, bytes_full = 0, peak_bytes = 0;  // of the cache
  int64_t cold_bytes = 0,
          index_bytes = 0;           // of a cold tier's blocks, its index
  std::vector<int64_t> layer_bytes;  // [layers] in the cache
  std::vector<int32_t> kept;         // [layers, kv_heads] in the cache
  std::vector<int32_t> cold;    // [layers, kv_heads] in a cold tier; else empty
  std::vector<int32_t> tokens;  // all that were seen; their number is the
                                // position
  std::vector<float> logits;    // after the last one

  int32_t position() const { return static_cast<int32_t>(tokens.size()); }
};

void WriteHead(const SessionHead& head, StateWriter* out);
// Errors: kModel where numbers cannot be.
Result<SessionHead> ReadHead(StateReader* in);

// Compression and cache. Position and shift of the sequence are the head's.
void WriteSequence(const Sequence& sequence, StateWriter* out);
// REQUIRES: a new sequence whose position and shift are set.
// Errors: kModel, kRuntime; the sequence is of no more use then.
Status ReadSequence(StateReader* in, Sequence* sequence);

// Whether the entries that stay depend on the last rows of a prompt: then a
// context that was compressed with one question serves others badly.
bool IsQuestionAware(const CacheSpec& spec);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_STATE_H_
