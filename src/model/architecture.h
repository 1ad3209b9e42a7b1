// What tells one architecture from another, as data that the loader and the
// forward pass read. Each row follows what llama.cpp does with such a file.

#ifndef PYRAMIDKV_MODEL_ARCHITECTURE_H_
#define PYRAMIDKV_MODEL_ARCHITECTURE_H_

#include <string>
#include <string_view>

#include "model/model.h"

namespace pyramidkv {

// What the key attention.sliding_window means. kIgnored: nothing, all layers
// see everything, as in llama.cpp.
enum class WindowUse { kIgnored, kAllLayers };

// Tensors that divide the frequencies of RoPE.
enum class RopeFactors { kNone, kOne };

struct Architecture {
  std::string_view name;  // general.architecture
  Rope::Layout rope_layout = Rope::Layout::kNorm;
  RopeFactors rope_factors = RopeFactors::kNone;
  bool head_norms = false;  // of each query and key head, before RoPE
  WindowUse windows = WindowUse::kIgnored;
};

// Null for an architecture that is not supported.
const Architecture* FindArchitecture(std::string_view name);

// All names, with commas between.
std::string ArchitectureNames();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_ARCHITECTURE_H_
