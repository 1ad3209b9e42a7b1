// Storage of entries: the part of a cache spec that pages follow from.

#ifndef PYRAMIDKV_POLICY_STORAGE_SPEC_H_
#define PYRAMIDKV_POLICY_STORAGE_SPEC_H_

#include <optional>

#include "cache/head_format.h"
#include "kernels/kv_codec.h"

namespace pyramidkv {

// kToken: 32 channels of a token; kTensor: all of a KV head's K or V; kChannel:
// keys have one for each channel of 32 tokens, values as kToken.
enum class ScaleKind { kToken, kTensor, kChannel };
enum class Positions { kOriginal, kRenumber };

struct StorageSpec {
  Codec type_k = Codec::kF16;
  Codec type_v = Codec::kF16;
  // Quantised types: what a scale is shared by, and the codec of the first and
  // the newest entries.
  ScaleKind scale = ScaleKind::kToken;
  Codec recent_type = Codec::kF16;
  // The share `top` with the best scores, of the entries that a prompt leaves
  // in a head, is held in this codec.
  std::optional<Codec> top_type;
  double top = 0.2;
  Positions positions = Positions::kOriginal;

  // How the cache holds the entries of a head.
  HeadFormat head_format(int head_dim) const {
    return {
        {head_dim, type_k, type_v, kPageEntries, scale == ScaleKind::kChannel},
        recent_type,
        top_type,
        scale == ScaleKind::kTensor};
  }
  bool ranks_top() const { return top_type.has_value(); }
  // Quantised keys are rounded by what a prompt shows of them.
  bool rounds_keys() const {
    return IsQuantized(type_k) && scale != ScaleKind::kChannel;
  }
  // The same, or one scale for all: found on a context's first tokens.
  bool fits() const { return rounds_keys() || scale == ScaleKind::kTensor; }
  bool operator==(const StorageSpec&) const = default;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_POLICY_STORAGE_SPEC_H_
