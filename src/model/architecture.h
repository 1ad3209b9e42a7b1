// Architectures as data that the loader and the forward pass read: all that
// tells one from another. Each row follows what llama.cpp does with such a
// file.

#ifndef PYRAMIDKV_MODEL_ARCHITECTURE_H_
#define PYRAMIDKV_MODEL_ARCHITECTURE_H_

#include <string>
#include <string_view>

#include "model/model.h"

namespace pyramidkv {

// Which layers have the window of the key attention.sliding_window. kIgnored:
// none, all layers see everything, as in llama.cpp. kPattern: all but every
// n-th, and they have a RoPE of their own.
enum class WindowUse { kIgnored, kAllLayers, kPattern };

// Tensors that divide the frequencies of RoPE: rope_freqs, or rope_factors_long
// where the model's context is beyond the one that it was first trained with
// and rope_factors_short where it is not.
enum class RopeFactors { kNone, kOne, kShortOrLong };

struct Architecture {
  std::string_view name;  // general.architecture
  Rope::Layout rope_layout = Rope::Layout::kNorm;
  RopeFactors rope_factors = RopeFactors::kNone;
  BlockTraits block = {};
  bool joined_gate = false;  // ffn_up has the rows of the gate, then its own
  bool scaled_embedding = false;  // by the root of its width
  bool final_softcap = false;     // where a key asks for it
  WindowUse windows = WindowUse::kIgnored;
  int global_every = 0;  // kPattern, unless a key says
  // A model of so many layers scales attention by the root of its share of
  // the embedding instead of head_dim: nothing in the file tells.
  int embedding_scale_layers = 0;
};

// Null for an architecture that is not supported.
const Architecture* FindArchitecture(std::string_view name);

// All names, with commas between.
std::string ArchitectureNames();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_ARCHITECTURE_H_
