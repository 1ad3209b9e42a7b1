// The part of a session file that holds a cold tier: of every head its
// positions, its index and the pages of its blocks. A load puts them into a
// tier of its own, in memory or in a file, as the cache spec says.

#ifndef PYRAMIDKV_RUNTIME_SESSION_COLD_H_
#define PYRAMIDKV_RUNTIME_SESSION_COLD_H_

#include "pyramidkv/status.h"
#include "runtime/sequence.h"
#include "runtime/session_stream.h"

namespace pyramidkv {

// Nothing without a tier. Errors: those of the tier's file and of the writer.
Status WriteCold(const Sequence& sequence, StateWriter* out);

// REQUIRES: the sequence is open, its cache and its position are restored, and
// its tier, if any, is empty.
// Errors: kModel, also where this engine's index is another one; kRuntime. The
// sequence is of no more use then.
Status ReadCold(StateReader* in, Sequence* sequence);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SESSION_COLD_H_
