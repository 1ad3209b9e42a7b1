// Hyper-parameters from the keys of a GGUF file.

#ifndef PYRAMIDKV_MODEL_HYPER_PARAMS_H_
#define PYRAMIDKV_MODEL_HYPER_PARAMS_H_

#include "model/gguf_file.h"
#include "model/model.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

// All but the frequency factors that lie in a tensor. Every number is within
// limits, so that products of any three of them fit in int64_t.
Result<HyperParams> ReadHyperParams(const GgufFile& file);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_MODEL_HYPER_PARAMS_H_
