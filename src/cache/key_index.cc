#include "cache/key_index.h"

#include "base/check.h"
#include "cache/sign_index.h"

namespace pyramidkv {

std::unique_ptr<KeyIndex> MakeKeyIndex(const KeyIndexOptions& options) {
  DCHECK(options.head_dim > 0 && options.head_dim % 8 == 0);
  switch (options.kind) {
    default:
      return std::make_unique<SignIndex>(options.head_dim);
  }
}

}  // namespace pyramidkv
