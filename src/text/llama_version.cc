#include "text/llama_version.h"

#include "llama.h"

namespace pyramidkv {

std::string LlamaVersion() { return llama_version(); }

std::string GgmlVersion() { return ggml_version(); }

}  // namespace pyramidkv
