// The versions of llama.cpp's libraries, as they are loaded.

#ifndef PYRAMIDKV_TEXT_LLAMA_VERSION_H_
#define PYRAMIDKV_TEXT_LLAMA_VERSION_H_

#include <string>

namespace pyramidkv {

std::string LlamaVersion();
std::string GgmlVersion();

}  // namespace pyramidkv

#endif  // PYRAMIDKV_TEXT_LLAMA_VERSION_H_
