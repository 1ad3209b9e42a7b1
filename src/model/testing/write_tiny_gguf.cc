// Writes a small random model; the integration tests compare what llama.cpp
// computes with it.
//
//   write_tiny_gguf PATH NAME=VALUE ... [u32:KEY=VALUE] [f32:KEY=VALUE]
//                   [str:KEY=VALUE]
//
// NAME is a number of TinyGgufOptions or `architecture`; KEY is a key of the
// architecture, written as it stands (u32:attention.sliding_window=32).

#include <gguf.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "model/testing/tiny_gguf.h"

namespace pyramidkv {
namespace {

struct Edit {
  char type;  // u32, f32 or str
  std::string key;
  std::string value;
};

bool SetNumber(const std::string& name, const std::string& value,
               TinyGgufOptions* o) {
  if (name == "ffn_norm") {
    o->ffn_norm = std::strtof(value.c_str(), nullptr);
    return true;
  }
  const std::map<std::string, int*> numbers = {
      {"layers", &o->layers},
      {"embedding", &o->embedding},
      {"heads", &o->heads},
      {"kv_heads", &o->kv_heads},
      {"head_dim", &o->head_dim},
      {"feed_forward", &o->feed_forward},
      {"vocabulary", &o->vocabulary},
      {"context_length", &o->context_length},
      {"weight_type", &o->weight_type},
      {"sliding_window", &o->sliding_window},
      {"rope_dims", &o->rope_dims}};
  if (name == "rope_factor_pair") {
    o->rope_factor_pair = value != "0";
    return true;
  }
  const auto found = numbers.find(name);
  if (found == numbers.end()) return false;
  *found->second = std::atoi(value.c_str());
  return true;
}

bool Parse(const std::string& argument, TinyGgufOptions* options,
           std::vector<Edit>* edits) {
  const size_t equal = argument.find('=');
  if (equal == argument.npos) return false;
  const std::string name = argument.substr(0, equal);
  const std::string value = argument.substr(equal + 1);
  if (name.starts_with("u32:") || name.starts_with("f32:") ||
      name.starts_with("str:")) {
    edits->push_back({name[0], name.substr(4), value});
    return true;
  }
  if (name == "architecture") {
    options->architecture = value;
    return true;
  }
  return SetNumber(name, value, options);
}

void Apply(const std::vector<Edit>& edits, const std::string& architecture,
           gguf_context* gguf) {
  for (const Edit& edit : edits) {
    const std::string key = architecture + "." + edit.key;
    if (edit.type == 's') {
      gguf_set_val_str(gguf, key.c_str(), edit.value.c_str());
    } else if (edit.type == 'f') {
      gguf_set_val_f32(gguf, key.c_str(), std::strtof(edit.value.c_str(), {}));
    } else {
      gguf_set_val_u32(gguf, key.c_str(), std::atoi(edit.value.c_str()));
    }
  }
}

int Main(int argc, char** argv) {
  if (argc < 2) return 2;
  TinyGgufOptions options;
  std::vector<Edit> edits;
  for (int i = 2; i < argc; ++i) {
    if (!Parse(argv[i], &options, &edits)) {
      std::fprintf(stderr, "write_tiny_gguf: %s is not understood\n", argv[i]);
      return 2;
    }
  }
  options.edit_keys = [&](gguf_context* gguf) {
    Apply(edits, options.architecture, gguf);
  };
  return WriteTinyGguf(options, argv[1]) ? 0 : 1;
}

}  // namespace
}  // namespace pyramidkv

int main(int argc, char** argv) { return pyramidkv::Main(argc, argv); }
