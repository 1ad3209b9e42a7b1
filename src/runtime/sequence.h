// One context: its cache, how it is compressed, and how far it has read.

#ifndef PYRAMIDKV_RUNTIME_SEQUENCE_H_
#define PYRAMIDKV_RUNTIME_SEQUENCE_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "cache/kv_cache.h"
#include "model/model.h"
#include "policy/spec.h"
#include "runtime/compressor.h"

namespace pyramidkv {

struct Sequence {
  Sequence(PagePool* pool, const HyperParams& params, const CacheSpec& spec,
           int reserve_tokens)
      : cache(pool, {params.layers,
                     params.kv_heads,
                     {params.head_dim, spec.type_k, spec.type_v}}),
        sliding_window(spec.sliding_window > 0 ? spec.sliding_window
                                               : params.sliding_window),
        compressor(spec, params, sliding_window, reserve_tokens) {}

  // First position that a query at `query_position` still sees.
  int FirstVisible(int query_position) const {
    return sliding_window > 0 && query_position >= sliding_window
               ? query_position - sliding_window + 1
               : 0;
  }

  KvCache cache;
  int sliding_window;  // 0: none
  Compressor compressor;
  int position = 0;  // of the next token; never derived from a length
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SEQUENCE_H_
