#include "model/architecture.h"

#include <fmt/format.h>

namespace pyramidkv {
namespace {

constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .rope_factors = RopeFactors::kOne,
     .windows = WindowUse::kAllLayers},
    {.name = "qwen2", .rope_layout = Rope::Layout::kNeox},
    {.name = "qwen3",
     .rope_layout = Rope::Layout::kNeox,
     .block = {.head_norms = true}},
    {.name = "gemma3",
     .rope_layout = Rope::Layout::kNeox,
     .block = {.head_norms = true,
               .post_norms = true,
               .activation = Activation::kGelu},
     .scaled_embedding = true,
     .final_softcap = true,
     .windows = WindowUse::kPattern,
     .global_every = 6,
     .embedding_scale_layers = 62},
    {.name = "phi3",
     .rope_layout = Rope::Layout::kNeox,
     .rope_factors = RopeFactors::kShortOrLong,
     .joined_gate = true},
};

}  // namespace

const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

std::string ArchitectureNames() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", architecture.name);
  }
  return names;
}

}  // namespace pyramidkv
