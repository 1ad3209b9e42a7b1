// Whether two files hold the same model, as far as a stored cache can tell.

#ifndef PYRAMIDKV_MODEL_FINGERPRINT_H_
#define PYRAMIDKV_MODEL_FINGERPRINT_H_

#include <cstdint>

namespace pyramidkv {

class GgufFile;
struct HyperParams;

// XXH3 of each part. Weights are looked at in samples (the first and a middle
// part of each tensor): enough to tell a fine-tuned model from its base, and
// no reason to read the file through.
struct ModelFingerprint {
  uint64_t tensors = 0;    // names, types, shapes
  uint64_t weights = 0;    // samples
  uint64_t tokenizer = 0;  // tokens, merges, types, scores, special ids
  uint64_t rope = 0;       // rotations, and what else attention is computed by
  bool operator==(const ModelFingerprint&) const = default;
};

// REQUIRES: the file passed the checks of Model::Load, which `params` (with
// the factors of RoPE) come from.
ModelFingerprint FingerprintOf(const GgufFile& file, const HyperParams& params);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_FINGERPRINT_H_
