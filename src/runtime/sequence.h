// One context: its cache, how it is compressed, and how far it has read.

#ifndef PYRAMIDKV_RUNTIME_SEQUENCE_H_
#define PYRAMIDKV_RUNTIME_SEQUENCE_H_

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

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
        windows(LayerWindows(spec, params)),
        compressor(spec, params, windows, reserve_tokens) {}

  // First position that a query at `query_position` still sees in a layer.
  int FirstVisible(int layer, int query_position) const {
    const int window = windows[layer];
    return window > 0 && query_position >= window ? query_position - window + 1
                                                  : 0;
  }

  // The spec's window for all layers, or each layer's own; 0: none.
  static std::vector<int> LayerWindows(const CacheSpec& spec,
                                       const HyperParams& params) {
    std::vector<int> windows(params.layers, spec.sliding_window);
    for (int l = 0; l < params.layers && spec.sliding_window == 0; ++l) {
      windows[l] = params.window(l);
    }
    return windows;
  }

  KvCache cache;
  std::vector<int> windows;  // [layers]
  Compressor compressor;
  int position = 0;  // of the next token; never derived from a length
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_SEQUENCE_H_
