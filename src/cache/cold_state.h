// A head of a cold tier without its blocks, in a form that can be stored,
// and how blocks get out and in. Which of them are in memory is not part of
// it: results do not depend on that.

#ifndef PYRAMIDKV_CACHE_COLD_STATE_H_
#define PYRAMIDKV_CACHE_COLD_STATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cache/key_index_state.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

struct ColdHeadState {
  std::vector<int32_t> positions;  // [length] in the order of the entries
  KeyIndexState index;
};

using ShowPage = std::function<Status(std::span<const std::byte> page)>;
using ReadPage = std::function<Status(std::span<std::byte> page)>;

}  // namespace pyramidkv

#endif  // PYRAMIDKV_CACHE_COLD_STATE_H_
