// Guards libllama, which aborts or reads past the end of an array when a
// file's tokenizer is not as it expects.

#ifndef PYRAMIDKV_MODEL_TOKENIZER_CHECK_H_
#define PYRAMIDKV_MODEL_TOKENIZER_CHECK_H_

#include <string>
#include <vector>

#include "model/gguf_file.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// `warnings` gets what libllama passes over, too.
// Errors: kModel, with the key and the token.
Status ValidateTokenizer(const GgufFile& file,
                         std::vector<std::string>* warnings);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_TOKENIZER_CHECK_H_
