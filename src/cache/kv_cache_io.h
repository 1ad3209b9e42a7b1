// What a head of a KvCache is beside its pages, in a form that can be stored.

#ifndef PYRAMIDKV_CACHE_KV_CACHE_IO_H_
#define PYRAMIDKV_CACHE_KV_CACHE_IO_H_

#include <cstdint>
#include <vector>

#include "pyramidkv/status.h"

namespace pyramidkv {

// See KvCache's invariants. Arrays are [length] or empty.
struct HeadState {
  int32_t length = 0;
  int32_t base = 0;            // position of entry 0 where none are stored
  int32_t seen = 0;            // one past the newest position appended
  int32_t evicted_from = 0;    // what Truncate
  int32_t evicted_before = 0;  // has to know
  std::vector<int32_t> positions;
  std::vector<float> bias;
  std::vector<float> scores;
  std::vector<int32_t> rope;
};

// Whether a head of a sequence that has seen `position` tokens can be like
// this: what all methods of KvCache take for granted.
// Errors: kModel, what is wrong.
Status CheckHeadState(const HeadState& state, int position);

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_KV_CACHE_IO_H_
