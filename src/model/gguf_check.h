// Guards the GGUF reader of ggml, which divides by a dimension of zero,
// compares all names with all others and prints what it dislikes: nothing
// reaches it that did not pass here.

#ifndef PYRAMIDKV_MODEL_GGUF_CHECK_H_
#define PYRAMIDKV_MODEL_GGUF_CHECK_H_

#include <cstddef>
#include <span>
#include <string>

#include "pyramidkv/status.h"

namespace pyramidkv {

// Walks the header of the GGUF file in `bytes`: magic, version, keys and the
// table of tensors. Whether the tensors' data is there is not looked at.
// Errors: kModel, with `path` and the place.
Status CheckGgufHeader(const std::string& path,
                       std::span<const std::byte> bytes);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_GGUF_CHECK_H_
