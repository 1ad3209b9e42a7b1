// Rotary embeddings from the keys of a GGUF file.

#ifndef PYRAMIDKV_MODEL_ROPE_KEYS_H_
#define PYRAMIDKV_MODEL_ROPE_KEYS_H_

#include "model/architecture.h"
#include "model/key_reader.h"
#include "model/model.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// Fills `rope` and, where layers with a window have one, `rope_local`.
// REQUIRES: params has its sizes. Errors: kModel, with the key.
Status ReadRope(const KeyReader& keys, const Architecture& architecture,
                HyperParams* params);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_ROPE_KEYS_H_
